// SPDX-License-Identifier: Apache-2.0
#include "base/clean_text.h"

#include "base/copy_bytes.h"
#include "base/counters.h"

namespace nopspan::detail {

namespace {
bool is_control(unsigned char byte) { return byte < 0x20 || byte == 0x7f; }

// The length of the character at text[at], or 0 if it is invalid or a control character. U+0080 to U+009F are control
// characters too: a terminal treats U+009B like ESC [.
std::size_t printable_sequence(std::string_view text, std::size_t at) noexcept {
  const std::size_t length = utf8_sequence(text, at);
  if (length == 1 && is_control(static_cast<unsigned char>(text[at]))) return 0;
  if (length == 2 && text[at] == '\xc2' && static_cast<unsigned char>(text[at + 1]) < 0xa0) return 0;
  return length;
}

}  // namespace

std::size_t utf8_sequence(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const std::size_t left = text.size() - at;
  const auto continues = [&](std::size_t i) { return i < left && (byte(i) & 0xc0U) == 0x80; };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return continues(1) ? 2 : 0;
  if (lead >= 0xe0 && lead <= 0xef) {
    if (!continues(1) || !continues(2)) return 0;
    if (lead == 0xe0 && byte(1) < 0xa0) return 0;  // overlong
    if (lead == 0xed && byte(1) > 0x9f) return 0;  // surrogate
    return 3;
  }
  if (lead >= 0xf0 && lead <= 0xf4) {
    if (!continues(1) || !continues(2) || !continues(3)) return 0;
    if (lead == 0xf0 && byte(1) < 0x90) return 0;
    if (lead == 0xf4 && byte(1) > 0x8f) return 0;
    return 4;
  }
  return 0;
}

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t i = 0; i < text.size();) {
    if (i + 8 <= text.size() && is_ascii(load_word(text.data() + i))) {
      i += 8;
      continue;
    }
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

bool is_clean(std::string_view text) noexcept {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  std::size_t i = 0;
  for (; i + 8 <= text.size() && are_plain(load_word(text.data() + i), 0x2020202020202020U); i += 8) {
  }
  for (; i < text.size() && static_cast<unsigned char>(text[i]) < 0x80; ++i) {
    if (is_control(static_cast<unsigned char>(text[i]))) return false;
  }
  for (std::size_t length; i < text.size(); i += length) {
    length = printable_sequence(text, i);
    if (length == 0) return false;
  }
  return true;
}

std::size_t clean(std::string_view text, char (&out)[kMaxNameBytes + 1]) noexcept {
  // One character instead of three dots, because dots separate the segments of a name.
  constexpr std::string_view kEllipsis = "\u2026";
  const bool cut = text.size() > kMaxNameBytes;
  const std::size_t limit = cut ? kMaxNameBytes - kEllipsis.size() : text.size();
  bool repaired = false;
  std::size_t size = 0;
  for (std::size_t i = 0; i < limit;) {
    const std::size_t length = printable_sequence(text, i);
    if (length == 0) {
      out[size++] = '?';
      repaired = true;
      ++i;
      continue;
    }
    if (i + length > limit) break;  // do not split a character
    for (std::size_t k = 0; k < length; ++k) out[size++] = text[i + k];
    i += length;
  }
  if (cut) {
    for (const char c : kEllipsis) out[size++] = c;
    count(counters.truncated);
  }
  if (repaired) count(counters.invalid_utf8);
  out[size] = '\0';
  return size;
}

bool is_type_name(std::string_view text) noexcept {
  constexpr std::string_view kWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:.-";
  constexpr std::string_view kArguments = " ,*&()[]";  // only inside <>
  constexpr std::string_view kUnnamed = "(anonymous namespace)";
  std::size_t depth = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (kWord.find(text[i]) != std::string_view::npos) continue;
    if (text[i] == '<' && i > 0) {
      ++depth;
    } else if (text[i] == '>' && depth > 0) {
      --depth;
    } else if (text.substr(i, kUnnamed.size()) == kUnnamed) {
      i += kUnnamed.size() - 1;
    } else if (depth == 0 || kArguments.find(text[i]) == std::string_view::npos) {
      return false;
    }
  }
  return !text.empty();
}

}  // namespace nopspan::detail
