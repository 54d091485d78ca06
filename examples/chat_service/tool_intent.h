// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_TOOL_INTENT_H
#define EXAMPLES_TOOL_INTENT_H

#include <string>
#include <string_view>
#include <vector>

#include "openai_protocol.h"

namespace example {

// The tool calls that the last message asks for. Rules decide this instead of a model's judgement, so that tests can
// predict it. An arithmetic expression calls the tool `calculator`. "search for x", "find x", "look for x" and "grep x"
// call `file_search`. One message may call both. Empty if the tools are not offered, if the last message is not the
// user's, or if tool_choice forbids calls. The calls have no ids yet.
std::vector<ToolCall> intended_tool_calls(const ChatRequest& request);

// The longest arithmetic expression in a text that has at least one operator between two numbers, or "".
std::string find_expression(std::string_view text);

// The text that a message asks to search for, or "".
std::string find_search(std::string_view text);

// The beginning of an answer that follows tool results. Empty if the last message is not a tool result.
std::string answer_from_tool_results(const ChatRequest& request);

}  // namespace example

#endif  // EXAMPLES_TOOL_INTENT_H
