// SPDX-License-Identifier: Apache-2.0
#include "base/styled_line.h"

#include "base/cells.h"

namespace nopspan::collector {
namespace {

std::string_view sequence_of(Style style) {
  switch (style) {
    case Style::plain:
      return {};
    case Style::bold:
      return "\x1b[1m";
    case Style::dim:
      return "\x1b[2m";
    case Style::red:
      return "\x1b[31m";
    case Style::yellow:
      return "\x1b[33m";
    case Style::cyan:
      return "\x1b[36m";
  }
  return {};
}

}  // namespace

void StyledLine::add(std::string_view text, Style style) {
  const std::string_view sequence = color_ && !text.empty() ? sequence_of(style) : std::string_view();
  if (utf8_ && !bounded_ && sequence.empty()) {
    text_ += text;
    return;
  }
  std::string shown(text);
  if (!utf8_) shown = ascii_only(shown);
  if (bounded_) {
    if (const std::size_t cells = cells_of(shown); cells <= left_) {
      left_ -= cells;
    } else {
      shown = utf8_ || left_ == 0 ? fit(shown, left_) : shown.substr(0, left_ - 1) + "~";
      left_ = 0;
    }
  }
  if (shown.empty()) return;
  text_ += sequence;
  text_ += shown;
  if (!sequence.empty()) text_ += "\x1b[0m";
}

std::string StyledLine::text() const {
  // Trailing blanks are invisible, and a nuisance when the line is copied.
  return text_.substr(0, text_.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace nopspan::collector
