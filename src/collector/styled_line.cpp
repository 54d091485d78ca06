// SPDX-License-Identifier: Apache-2.0
#include "styled_line.h"

#include <cwchar>
#include <utility>

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

struct Step {
  std::size_t bytes, columns;
};

// The character that `text`, which is UTF-8, begins with.
Step first_step(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {1, 1};
  std::size_t size = 1;
  wchar_t code = 0;
  if (lead >= 0xf0) {
    code = lead & 0x07;
    size = 4;
  } else if (lead >= 0xe0) {
    code = lead & 0x0f;
    size = 3;
  } else if (lead >= 0xc0) {
    code = lead & 0x1f;
    size = 2;
  }
  if (size > text.size()) return {text.size(), 1};
  for (std::size_t i = 1; i < size; ++i) code = (code << 6) | (static_cast<unsigned char>(text[i]) & 0x3f);
  const int columns = wcwidth(code);  // -1 in a locale that does not know it
  return {size, columns < 0 ? 1U : static_cast<std::size_t>(columns)};
}

}  // namespace

std::size_t display_width(std::string_view text) {
  std::size_t columns = 0;
  while (!text.empty()) {
    const Step step = first_step(text);
    columns += step.columns;
    text.remove_prefix(step.bytes);
  }
  return columns;
}

std::string_view cut_to_width(std::string_view text, std::size_t columns) {
  std::size_t bytes = 0;
  while (bytes < text.size()) {
    const Step step = first_step(text.substr(bytes));
    if (step.columns > columns) break;
    columns -= step.columns;
    bytes += step.bytes;
  }
  return text.substr(0, bytes);
}

void StyledLine::add(std::string_view text, Style style) {
  if (bounded_) {
    text = cut_to_width(text, left_);
    left_ -= display_width(text);
  }
  if (text.empty()) return;
  const std::string_view sequence = color_ ? sequence_of(style) : std::string_view();
  text_ += sequence;
  text_ += text;
  if (!sequence.empty()) text_ += "\x1b[0m";
}

std::string StyledLine::take() {
  // Blanks at the end are nothing to see, and in the way of whoever copies the line.
  if (!text_.empty() && text_.back() == ' ') text_.resize(text_.find_last_not_of(' ') + 1);
  return std::exchange(text_, {}) + "\n";
}

}  // namespace nopspan::collector
