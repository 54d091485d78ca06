// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_AGENT_TOOLS_H
#define EXAMPLES_AGENT_TOOLS_H

#include <filesystem>
#include <string>

#include "openai_protocol.h"

namespace example {

struct ToolResult {
  std::string text;        // for the model. If the tool failed: "error: " and the reason
  std::string error_type;  // "" if the tool did not fail
};

// The agent's tools in the notation of the protocol: `calculator`, which knows one operation of two numbers, and
// `file_search`, which finds a text in files.
Json tool_definitions();

// Runs a tool. Errors are part of the result, because the model must see them.
ToolResult run_tool(const ToolCall& call, const std::filesystem::path& search_root);

}  // namespace example

#endif  // EXAMPLES_AGENT_TOOLS_H
