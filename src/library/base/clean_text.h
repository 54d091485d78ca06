// SPDX-License-Identifier: Apache-2.0
// Validates and repairs names, ids and labels. They leave the process as at most 63 bytes of UTF-8 without control
// characters.
#pragma once

#include <nopspan/types.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// The length of the UTF-8 sequence that begins at text[at], or 0 if it is invalid. Overlong forms, surrogates and code
// points above U+10FFFF are invalid.
std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;
bool is_utf8(std::string_view text) noexcept;

// True if the text can leave the process unchanged.
bool is_clean(std::string_view text) noexcept;

// True if all of the bytes in the two words are ASCII and none is a control character.
inline bool are_plain(std::uint64_t one, std::uint64_t other) noexcept {
  constexpr std::uint64_t kOnes = 0x0101010101010101U;
  constexpr std::uint64_t kHigh = 0x8080808080808080U;
  // For each byte: `below` has its high bit set if the byte is below 0x20, and `del` if the byte is 0x7f. Only such a
  // byte, or one that is not ASCII, borrows from the next byte. So a word of eight good bytes never fails.
  const auto marks = [](std::uint64_t word) {
    const std::uint64_t below = word - 0x20U * kOnes;
    const std::uint64_t del = (word ^ (0x7fU * kOnes)) - kOnes;
    return word | below | del;
  };
  return ((marks(one) | marks(other)) & kHigh) == 0;
}

// Copies `text` to `out` (64 bytes) and adds a NUL. Replaces each byte that is not allowed with "?". A text of more
// than 63 bytes is truncated to 60 bytes, and "…" is added. Counts truncated and repaired texts. Returns the length.
std::size_t clean(std::string_view text, char (&out)[kMaxNameBytes + 1]) noexcept;

// True if the text looks like the name of a type of errors: "timeout", "503", "std::vector<int, Pool>". Any other text
// may be a message, which is content.
bool is_type_name(std::string_view text) noexcept;

// True if the texts differ at most in the case of ASCII letters. The C library's comparison depends on the program's
// locale.
inline bool is_same_word(std::string_view a, std::string_view b) noexcept {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [&](char x, char y) { return lower(x) == lower(y); });
}

// The text without blanks and tabs at its ends, the white space of HTTP headers.
inline std::string_view trim(std::string_view text) noexcept {
  const auto is_blank = [](char c) { return c == ' ' || c == '\t'; };
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace nopspan::detail
