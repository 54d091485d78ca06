// SPDX-License-Identifier: Apache-2.0
#include "thread/log_line.h"

#include "base/clean_text.h"

namespace nopspan::detail {
namespace {

constexpr std::string_view kEllipsis = "\u2026";

// True for control characters, and for Unicode's line and paragraph separators.
bool is_unseen(std::string_view sequence) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(sequence[i]); };
  if (sequence.size() == 1) return byte(0) < 0x20 || byte(0) == 0x7f;
  if (sequence.size() == 2) return byte(0) == 0xc2 && byte(1) < 0xa0;
  return sequence == "\u2028" || sequence == "\u2029";
}

}  // namespace

std::string printable(std::string_view text, std::size_t limit, std::string_view refused) {
  const bool cut = text.size() > limit;
  const std::size_t end = cut ? limit - kEllipsis.size() : text.size();
  std::string line;
  for (std::size_t i = 0; i < end;) {
    const std::string_view sequence = text.substr(i, utf8_sequence(text, i));
    if (i + sequence.size() > end) break;  // do not split a character
    const bool stays = !sequence.empty() && !is_unseen(sequence) && refused.find(sequence) == std::string_view::npos;
    line += stays ? sequence : "?";
    i += sequence.empty() ? 1 : sequence.size();
  }
  if (cut) line += kEllipsis;
  return line;
}

}  // namespace nopspan::detail
