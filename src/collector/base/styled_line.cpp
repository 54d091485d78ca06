// SPDX-License-Identifier: Apache-2.0
#include "base/styled_line.h"

#include "base/cells.h"

namespace nopspan::collector {
namespace {

constexpr std::string_view kSequences[] = {"", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[33m", "\x1b[36m"};  // by Style

}  // namespace

std::string_view StyledLine::sequence_for(Style style) const {
  return color_ ? kSequences[static_cast<std::size_t>(style)] : std::string_view();
}

void StyledLine::add(std::string_view text, Style style) {
  if (text.empty()) return;
  const std::string_view sequence = sequence_for(style);
  if (utf8_ && width_ == 0 && sequence.empty()) {
    text_ += text;
    return;
  }
  std::string shown(text);
  if (!utf8_) shown = ascii_only(shown);
  if (width_ > 0) {
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

void StyledLine::add(std::initializer_list<std::string_view> parts, Style style) {
  if (utf8_ && width_ == 0 && sequence_for(style).empty()) {
    for (const std::string_view part : parts) text_ += part;
    return;
  }
  std::string text;
  for (const std::string_view part : parts) text += part;
  add(text, style);
}

void StyledLine::end() {
  // Trailing blanks are invisible, and a nuisance when the line is copied.
  text_.erase(text_.find_last_not_of(' ') + 1);
  text_ += '\n';
  left_ = width_;
}

}  // namespace nopspan::collector
