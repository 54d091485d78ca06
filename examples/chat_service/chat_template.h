// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_TEMPLATE_H
#define EXAMPLES_CHAT_TEMPLATE_H

#include <vector>

#include "openai_protocol.h"
#include "tokenizer.h"

namespace example {

// A conversation in the model's tokens: the tools, each message after the token of its role, and the token of the
// assistant, who speaks next. The tokens of a conversation are a prefix of those of its continuation.
std::vector<Token> prompt_tokens(const ChatRequest& request, const Tokenizer& tokenizer);

}  // namespace example

#endif  // EXAMPLES_CHAT_TEMPLATE_H
