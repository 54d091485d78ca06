// SPDX-License-Identifier: Apache-2.0
// What may leave the process as a name, an id or a label: at most 63 bytes of UTF-8 without control characters.
#pragma once

#include <nopspan/name.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

// The length of the UTF-8 sequence that begins at text[at]; 0 where the bytes there are none (overlong forms,
// surrogates and code points over U+10FFFF included).
std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept;
bool is_utf8(std::string_view text) noexcept;

// Whether the text can leave the process as it is.
bool is_clean(std::string_view text) noexcept;

// Whether eight bytes are ASCII and no control characters, all at once.
inline bool is_plain(const char* bytes) noexcept {
  constexpr std::uint64_t kOnes = 0x0101010101010101U;
  constexpr std::uint64_t kHigh = 0x8080808080808080U;
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  // With no high bit set no byte borrows from the next: below 0x20, and 0x7f made zero.
  const std::uint64_t below = word - 0x20U * kOnes;
  const std::uint64_t del = (word ^ (0x7fU * kOnes)) - kOnes;
  return ((word | below | del) & kHigh) == 0;
}

// is_clean() without a call, for what names usually are: 8 to 24 such bytes.
inline bool is_usual_name(std::string_view text) noexcept {
  const std::size_t size = text.size();
  if (size < 8 || size > 24) return false;
  const char* bytes = text.data();
  return is_plain(bytes) && is_plain(bytes + size - 8) && (size <= 16 || is_plain(bytes + 8));
}

// Copies `text` to `out` (64 bytes), "?" for each byte that cannot stay, cut to 60 bytes and "…" if over 63; ends it
// with a NUL. Counts what was cut. Returns the length.
std::size_t clean(std::string_view text, char (&out)[kMaxNameBytes + 1]) noexcept;

}  // namespace nopspan::detail
