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

// Tokens below 256 are single bytes, so that every text can be written in tokens, whatever the vocabulary.
constexpr Token kFirstSpecial = 256;
constexpr Token kEnd = 256;  // the end of a text, and so also the beginning of the next
constexpr Token kSystem = 257;
constexpr Token kUser = 258;
constexpr Token kAssistant = 259;
constexpr Token kTool = 260;
constexpr Token kFirstWord = 261;

inline bool is_special(Token token) { return token >= kFirstSpecial && token < kFirstWord; }

// Words, each with the blank before it, and single bytes for what is not in the vocabulary. decode(encode(t)) is t.
class Tokenizer {
 public:
  // Adds the words of `text` to the vocabulary.
  void learn(std::string_view text);

  std::vector<Token> encode(std::string_view text) const;

  // The bytes that a token stands for; none for a special token. Valid as long as the tokenizer lives.
  std::string_view text(Token token) const;

  // One more than the highest token.
  std::size_t size() const { return kFirstWord + words_.size(); }

 private:
  std::deque<std::string> words_;  // a deque: its strings stay where they are, `index_` looks into them
  std::unordered_map<std::string_view, Token> index_;
};

}  // namespace example

#endif  // EXAMPLES_TOKENIZER_H
