// SPDX-License-Identifier: Apache-2.0
// A line for a terminal: colours, if it may have them, and cut to its width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

enum class Style : std::uint8_t { plain, bold, dim, red, yellow, cyan };

class StyledLine {
 public:
  // `width` in columns; 0: as long as it gets.
  StyledLine(bool color, std::size_t width) : color_(color), left_(width), bounded_(width > 0) {}

  // `text` is printable.
  void add(std::string_view text, Style style = Style::plain);
  // The line with its end; then it is empty, and of no more width than is left.
  [[nodiscard]] std::string take();

 private:
  std::string text_;
  bool color_;
  std::size_t left_;
  bool bounded_;
};

// Columns that a printable text takes on a terminal.
std::size_t display_width(std::string_view text);
// The longest beginning of `text` that takes at most so many columns.
std::string_view cut_to_width(std::string_view text, std::size_t columns);

}  // namespace nopspan::collector
