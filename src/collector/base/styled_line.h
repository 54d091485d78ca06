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
  // `width` in cells; 0: as long as it gets.
  StyledLine(bool color, bool utf8, std::size_t width)
      : color_(color), utf8_(utf8), left_(width), bounded_(width > 0) {}

  // `text` is printable(). What has no room ends with an ellipsis, or without UTF-8 with "~".
  void add(std::string_view text, Style style = Style::plain);
  // With its end.
  [[nodiscard]] std::string text() const;

 private:
  std::string text_;
  bool color_, utf8_;
  std::size_t left_;
  bool bounded_;
};

}  // namespace nopspan::collector
