// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_AGENT_TOOLS_H
#define EXAMPLES_AGENT_TOOLS_H

#include <filesystem>
#include <string>

#include "openai_protocol.h"

namespace example {

struct ToolResult {
  bool ok = true;
  std::string text;        // for the model. If the tool failed: "error: " and the reason
  std::string error_type;  // set if the tool failed
};

// The agent's tools: a calculator, and a search through files. Thread-safe.
class AgentTools {
 public:
  explicit AgentTools(std::filesystem::path search_root) : search_root_(std::move(search_root)) {}

  // The tools in the notation of the protocol.
  static Json definitions();

  // Runs a tool. Errors are part of the result, because the model must see them.
  ToolResult run(const ToolCall& call) const;

 private:
  std::string file_search(const std::string& query) const;

  const std::filesystem::path search_root_;
};

}  // namespace example

#endif  // EXAMPLES_AGENT_TOOLS_H
