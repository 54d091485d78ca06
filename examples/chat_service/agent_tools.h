// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_AGENT_TOOLS_H
#define EXAMPLES_AGENT_TOOLS_H

#include <filesystem>
#include <string>

#include "openai_protocol.h"

namespace example {

struct ToolResult {
  bool ok = true;
  std::string text;        // for the model; of a failure: "error: " and what was wrong
  std::string error_type;  // of a failure
};

// The tools of the agent, a calculator and a search through files. Safe to call from several threads.
class AgentTools {
 public:
  explicit AgentTools(std::filesystem::path search_root) : search_root_(std::move(search_root)) {}

  // The tools as the protocol describes them.
  static Json definitions();

  // Runs a tool. What goes wrong is part of the result, since the model has to see it.
  ToolResult run(const ToolCall& call) const;

 private:
  std::string file_search(const std::string& query) const;

  const std::filesystem::path search_root_;
};

}  // namespace example

#endif  // EXAMPLES_AGENT_TOOLS_H
