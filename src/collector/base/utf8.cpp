// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::collector {
namespace {

// How many bytes the character takes that `text` begins with; 0 if it begins with none. (The Unicode Standard, table
// 3-7: no surrogates, nothing over U+10FFFF, no longer forms than needed.)
std::size_t character_bytes(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto follows = [&](std::size_t i) { return i < text.size() && (byte(i) & 0xc0U) == 0x80U; };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  if (!follows(1)) return 0;
  if (first < 0xe0) return 2;
  const unsigned second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f)) return 0;
  if (!follows(2)) return 0;
  if (first < 0xf0) return 3;
  if ((first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f)) return 0;
  return follows(3) ? 4 : 0;
}

}  // namespace

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    // Nearly all text is ASCII.
    std::uint64_t word = 0;
    const std::size_t some = std::min(text.size(), sizeof(word));
    std::memcpy(&word, text.data(), some);
    if ((word & 0x8080808080808080U) == 0) {
      text.remove_prefix(some);
      continue;
    }
    const std::size_t bytes = character_bytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string mended_utf8(std::string_view text) {
  std::string mended;
  mended.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = character_bytes(text);
    mended += bytes == 0 ? "?" : text.substr(0, bytes);
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return mended;
}

}  // namespace nopspan::collector
