// SPDX-License-Identifier: Apache-2.0
#include "clean_text.h"

#include "counters.h"

namespace nopspan::detail {

namespace {
bool is_control(unsigned char byte) { return byte < 0x20 || byte == 0x7f; }
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
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0) return false;
    i += length;
  }
  return true;
}

bool is_clean(std::string_view text) noexcept {
  if (text.empty() || text.size() > kMaxNameBytes) return false;
  bool ascii = true;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (is_control(byte)) return false;
    ascii = ascii && byte < 0x80;
  }
  return ascii || is_utf8(text);
}

std::size_t clean(std::string_view text, char (&out)[kMaxNameBytes + 1]) noexcept {
  constexpr std::string_view kEllipsis = "\u2026";  // no dots: a name that was cut is still one of segments
  const bool cut = text.size() > kMaxNameBytes;
  const std::size_t limit = cut ? kMaxNameBytes - kEllipsis.size() : text.size();
  bool mended = false;
  std::size_t size = 0;
  for (std::size_t i = 0; i < limit;) {
    const std::size_t length = utf8_sequence(text, i);
    if (length == 0 || (length == 1 && is_control(static_cast<unsigned char>(text[i])))) {
      out[size++] = '?';
      mended = true;
      ++i;
      continue;
    }
    if (i + length > limit) break;  // never half a character
    for (std::size_t k = 0; k < length; ++k) out[size++] = text[i + k];
    i += length;
  }
  if (cut) {
    for (const char c : kEllipsis) out[size++] = c;
    count(counters.truncated);
  }
  if (mended) count(counters.invalid_utf8);
  out[size] = '\0';
  return size;
}

}  // namespace nopspan::detail
