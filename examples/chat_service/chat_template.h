// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_CHAT_TEMPLATE_H
#define EXAMPLES_CHAT_TEMPLATE_H

#include <vector>

#include "openai_protocol.h"
#include "tokenizer.h"

namespace example {

// A conversation as the model reads it: the tools, every message behind the token of its role, and the token of the
// assistant, who is to speak next. A longer conversation begins with the tokens of the shorter one.
std::vector<Token> prompt_tokens(const ChatRequest& request, const Tokenizer& tokenizer);

}  // namespace example

#endif  // EXAMPLES_CHAT_TEMPLATE_H
