// SPDX-License-Identifier: Apache-2.0
// UTF-8 according to its definition, code point by code point. Shares no code with the library.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

struct CodePoint {
  std::size_t size = 0;  // in bytes. 0: not a valid code point
  std::uint32_t value = 0;
};

// The code point at the beginning of `text`.
inline CodePoint first_code_point(std::string_view text) {
  if (text.empty()) return {};
  constexpr std::uint32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, lead};
  std::size_t size = 1;
  while (size < 8 && (lead & (0x80U >> size)) != 0) ++size;
  if (size < 2 || size > 4 || size > text.size()) return {};
  std::uint32_t value = lead & (0x7fU >> size);
  for (std::size_t i = 1; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    if (byte >> 6U != 2) return {};
    value = value << 6U | (byte & 0x3fU);
  }
  const bool surrogate = value >= 0xd800 && value <= 0xdfff;
  if (value < kLeast[size] || value > 0x10ffff || surrogate) return {};
  return {size, value};
}

// `text` with "?" in place of each byte that does not belong to a code point.
inline std::string repaired(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    const std::size_t size = point.size == 0 ? 1 : point.size;
    if (point.size == 0) {
      out += '?';
    } else {
      out += text.substr(0, size);
    }
    text.remove_prefix(size);
  }
  return out;
}

inline bool is_utf8_text(std::string_view text) { return repaired(text) == text; }

// At most 63 bytes that a terminal prints and does not interpret: UTF-8 without Unicode's control characters (Cc).
inline bool is_printable_name(std::string_view text) {
  if (text.size() > 63 || !is_utf8_text(text)) return false;
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    if (point.value < 0x20 || (point.value >= 0x7f && point.value < 0xa0)) return false;
    text.remove_prefix(point.size);
  }
  return true;
}
