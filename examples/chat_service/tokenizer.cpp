// SPDX-License-Identifier: Apache-2.0
#include "tokenizer.h"

#include <array>

namespace example {
namespace {

enum class Kind { kLetter, kDigit, kBlank, kLineBreak, kMark };

Kind kind_of(char c) {
  const auto byte = static_cast<unsigned char>(c);
  if (byte >= 0x80 || c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) return Kind::kLetter;
  if (c >= '0' && c <= '9') return Kind::kDigit;
  if (c == ' ' || c == '\t') return Kind::kBlank;
  if (c == '\n' || c == '\r') return Kind::kLineBreak;
  return Kind::kMark;
}

// The length of the piece at the beginning of `text`, which must not be empty.
std::size_t piece_length(std::string_view text) {
  std::size_t begin = 0;
  if (text[0] == ' ' && text.size() > 1) {
    const Kind after = kind_of(text[1]);
    if (after != Kind::kBlank && after != Kind::kLineBreak) begin = 1;
  }
  const Kind kind = kind_of(text[begin]);
  std::size_t longest = text.size();
  if (kind == Kind::kMark) longest = begin + 1;
  if (kind == Kind::kDigit) longest = begin + 3;
  std::size_t end = begin + 1;
  while (end < text.size() && end < longest && kind_of(text[end]) == kind) ++end;
  // The last blank of a run belongs to the next word.
  if (kind == Kind::kBlank && end > 1 && end < text.size() && text[end - 1] == ' ' &&
      kind_of(text[end]) != Kind::kLineBreak) {
    --end;
  }
  return end;
}

// The 256 one-byte strings.
const std::array<char, 256>& all_bytes() {
  static const std::array<char, 256> bytes = [] {
    std::array<char, 256> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
    return all;
  }();
  return bytes;
}

}  // namespace

void Tokenizer::learn(std::string_view text) {
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, piece_length(text));
    text.remove_prefix(piece.size());
    if (piece.size() == 1 || index_.count(piece) != 0) continue;
    words_.emplace_back(piece);
    index_.emplace(words_.back(), static_cast<Token>(size() - 1));
  }
}

std::vector<Token> Tokenizer::encode(std::string_view text) const {
  std::vector<Token> tokens;
  tokens.reserve(text.size() / 4 + 1);
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, piece_length(text));
    text.remove_prefix(piece.size());
    const auto found = index_.find(piece);
    if (found != index_.end()) {
      tokens.push_back(found->second);
    } else {
      for (char c : piece) tokens.push_back(static_cast<unsigned char>(c));
    }
  }
  return tokens;
}

std::string_view Tokenizer::text(Token token) const {
  if (token < kFirstSpecial) return {&all_bytes()[token], 1};
  if (is_special(token)) return {};
  return words_.at(token - kFirstWord);
}

}  // namespace example
