// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_LANGUAGE_MODEL_H
#define EXAMPLES_LANGUAGE_MODEL_H

#include <map>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace example {

// A word with the blank before it, or another character. The empty token is the end of a text.
using Token = std::string;

// The tokens of a text. Together they are the text.
std::vector<Token> tokens_of(std::string_view text);

// A model over words. It draws the next word from those that followed the last one in a short text about tracing. It is
// a weak model, but it works like a large one: it predicts one token at a time from the tokens before.
class LanguageModel {
 public:
  using Random = std::mt19937_64;

  LanguageModel();

  // Draws the token that follows `last`. Temperature 0 takes the likeliest token. Safe to call from several threads.
  Token next(const Token& last, double temperature, Random& random) const;

 private:
  std::unordered_map<Token, std::map<Token, int>> followers_;  // how often a token followed another one
};

}  // namespace example

#endif  // EXAMPLES_LANGUAGE_MODEL_H
