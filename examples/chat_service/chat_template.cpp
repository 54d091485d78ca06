// SPDX-License-Identifier: Apache-2.0
#include "chat_template.h"

#include <string>

namespace example {
namespace {

Token role_token(const std::string& role) {
  if (role == "user") return kUser;
  if (role == "assistant") return kAssistant;
  if (role == "tool") return kTool;
  return kSystem;
}

void append(Token role, const std::string& text, const Tokenizer& tokenizer, std::vector<Token>& tokens) {
  tokens.push_back(role);
  const std::vector<Token> encoded = tokenizer.encode(text);
  tokens.insert(tokens.end(), encoded.begin(), encoded.end());
}

}  // namespace

std::vector<Token> prompt_tokens(const ChatRequest& request, const Tokenizer& tokenizer) {
  std::vector<Token> tokens;
  for (const ToolDefinition& tool : request.tools) {
    append(kSystem, tool.name + "(" + tool.argument + "): " + tool.description, tokenizer, tokens);
  }
  for (const Message& message : request.messages) {
    std::string text = message.content;
    for (const ToolCall& call : message.tool_calls) text += call.name + call.arguments;
    append(role_token(message.role), text, tokenizer, tokens);
  }
  tokens.push_back(kAssistant);
  return tokens;
}

}  // namespace example
