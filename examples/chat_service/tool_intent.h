// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_TOOL_INTENT_H
#define EXAMPLES_TOOL_INTENT_H

#include <string>
#include <string_view>
#include <vector>

#include "openai_protocol.h"

namespace example {

// The tool calls that the last message asks for, by rules instead of a model's judgement, so that a test knows them
// beforehand: an arithmetic expression goes to the tool `calculator`, "search for x", "find x", "look for x" and "grep
// x" to `file_search`; one message may ask for both. Empty when the tools are not there, the last message is not the
// user's, or tool_choice forbids. The calls have no ids yet.
std::vector<ToolCall> intended_tool_calls(const ChatRequest& request);

// The longest arithmetic expression in a text that has at least one operator between two numbers; else empty.
std::string find_expression(std::string_view text);

// What a text asks to search for; else empty.
std::string find_search(std::string_view text);

// The words with which an answer begins that follows on the results of tools; empty when the last message is none.
std::string answer_from_tool_results(const ChatRequest& request);

}  // namespace example

#endif  // EXAMPLES_TOOL_INTENT_H
