// SPDX-License-Identifier: Apache-2.0
#include "base/utf8.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::collector {

namespace {

// How many bytes at the begin of an invalid text could begin a character; at least 1.
std::size_t begun_character(std::string_view text) {
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

}  // namespace

bool is_other_utf8(std::string_view text) {
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

std::string repaired_utf8(std::string_view text) {
  std::string repaired;
  repaired.reserve(text.size());
  while (!text.empty()) {
    const std::size_t bytes = first_character(text).bytes;
    repaired += bytes == 0 ? "?" : text.substr(0, bytes);
    text.remove_prefix(bytes == 0 ? 1 : bytes);
  }
  return repaired;
}

std::string replaced_utf8(std::string_view text) {
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
