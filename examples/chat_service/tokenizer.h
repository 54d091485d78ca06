// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_TOKENIZER_H
#define EXAMPLES_TOKENIZER_H

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace example {

using Token = std::uint32_t;

// Tokens below 256 are single bytes, so every text can be expressed, whatever the vocabulary.
constexpr Token kFirstSpecial = 256;
constexpr Token kEnd = 256;  // the end of a text, and thus the context of the next one's first token
constexpr Token kSystem = 257;
constexpr Token kUser = 258;
constexpr Token kAssistant = 259;
constexpr Token kTool = 260;
constexpr Token kFirstWord = 261;

inline bool is_special(Token token) { return token >= kFirstSpecial && token < kFirstWord; }

// Tokens are words, each with the blank before it, and single bytes for text that is not in the vocabulary.
// decode(encode(t)) is t.
class Tokenizer {
 public:
  // Adds the words of `text` to the vocabulary.
  void learn(std::string_view text);

  std::vector<Token> encode(std::string_view text) const;

  // The bytes of a token. Empty for a special token. Valid as long as the tokenizer exists.
  std::string_view text(Token token) const;

  // The highest token plus one.
  std::size_t size() const { return kFirstWord + words_.size(); }

 private:
  std::deque<std::string> words_;  // a deque, because `index_` refers to its strings and they must not move
  std::unordered_map<std::string_view, Token> index_;
};

}  // namespace example

#endif  // EXAMPLES_TOKENIZER_H
