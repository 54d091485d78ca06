// SPDX-License-Identifier: Apache-2.0
// Checks and repairs UTF-8. Strings in protobuf messages must be UTF-8, or a receiver refuses the whole message. It
// needs C++17 only, because the library nopspan::recording uses it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nopspan::collector {

struct Utf8Character {
  char32_t code = 0;
  std::size_t bytes = 0;  // its length; 0 if the text does not begin with a valid character
};
// Decodes the first character of `text`, which must not be empty.
// Follows table 3-7 (well-formed UTF-8) of the Unicode Standard: no surrogates, nothing above U+10FFFF, no overlong
// forms.
inline Utf8Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < bytes) return {};
  char32_t code = lead & (0xffU >> (bytes + 1));
  for (std::size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return {};
    code = (code << 6U) | (byte(i) & 0x3fU);
  }
  const bool is_too_long = (bytes == 3 && code < 0x800) || (bytes == 4 && code < 0x10000);
  if (is_too_long || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) return {};
  return {code, bytes};
}

// Reads whole words, because nearly all text is short and ASCII.
inline bool is_ascii(std::string_view text) {
  constexpr std::uint64_t kHighBits = 0x8080808080808080U;
  const auto word_at = [&](std::size_t offset, auto word) {
    std::memcpy(&word, text.data() + offset, sizeof(word));
    return std::uint64_t{word};
  };
  std::uint64_t bits = 0;
  if (text.size() >= sizeof(std::uint64_t)) {
    for (std::size_t i = 0; i + sizeof(std::uint64_t) < text.size(); i += sizeof(std::uint64_t)) {
      bits |= word_at(i, std::uint64_t{});
    }
    bits |= word_at(text.size() - sizeof(std::uint64_t), std::uint64_t{});
  } else if (text.size() >= sizeof(std::uint32_t)) {
    bits = word_at(0, std::uint32_t{}) | word_at(text.size() - sizeof(std::uint32_t), std::uint32_t{});
  } else {
    for (const char byte : text) bits |= static_cast<unsigned char>(byte);
  }
  return (bits & kHighBits) == 0;
}
// Whether all bytes are printable characters of ASCII.
inline bool is_printable_ascii(std::string_view text) {
  constexpr std::uint64_t kOnes = 0x0101010101010101U, kHighBits = 0x80 * kOnes;
  // The high bit of a byte is set in one of the three terms if the byte is above 0x7f, is 0x7f, or is below a blank.
  const auto others = [](std::uint64_t word) { return word | (word + kOnes) | ((word - ' ' * kOnes) & ~word); };
  std::uint64_t bits = 0;
  while (!text.empty()) {
    std::uint64_t word = ' ' * kOnes;
    const std::size_t bytes = text.size() < sizeof(word) ? text.size() : sizeof(word);
    std::memcpy(&word, text.data(), bytes);
    bits |= others(word);
    text.remove_prefix(bytes);
  }
  return (bits & kHighBits) == 0;
}
// The same as is_utf8(), for text that is not ASCII.
inline bool is_other_utf8(std::string_view text) {
  while (!text.empty()) {
    // Skips eight ASCII bytes at a time, because nearly all text is ASCII.
    std::uint64_t word = 0;
    const std::size_t some = std::min(text.size(), sizeof(word));
    std::memcpy(&word, text.data(), some);
    if ((word & 0x8080808080808080U) == 0) {
      text.remove_prefix(some);
      continue;
    }
    const std::size_t bytes = first_character(text).bytes;
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}
inline bool is_utf8(std::string_view text) { return is_ascii(text) || is_other_utf8(text); }

// How many bytes at the begin of an invalid text could begin a character; at least 1.
inline std::size_t begun_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  const std::size_t most = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : 1;
  if (lead < 0xe0 || lead > 0xf4) return 1;
  // The second byte must not make an overlong form, a surrogate or a character above U+10FFFF.
  const unsigned char first = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char last = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  std::size_t bytes = 1;
  while (bytes < std::min(most, text.size()) && byte(bytes) >= (bytes == 1 ? first : 0x80) &&
         byte(bytes) <= (bytes == 1 ? last : 0xbf)) {
    ++bytes;
  }
  return bytes;
}
// `text` with U+FFFD for each byte that is not UTF-8. If several bytes begin a character that is not complete, there is
// one U+FFFD for all of them, as in nlohmann-json.
inline std::string replaced_utf8(std::string_view text) {
  std::string replaced;
  while (!text.empty()) {
    std::size_t bytes = first_character(text).bytes;
    if (bytes != 0) {
      replaced += text.substr(0, bytes);
    } else {
      replaced += "\xef\xbf\xbd";
      bytes = begun_character(text);
    }
    text.remove_prefix(bytes);
  }
  return replaced;
}

}  // namespace nopspan::collector
