// SPDX-License-Identifier: Apache-2.0
// A line for a terminal, optionally with colours, cut to the terminal's width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

enum class Style : std::uint8_t { plain, bold, dim, red, yellow, cyan };

class StyledLine {
 public:
  // `width` is in cells. 0 means no limit.
  StyledLine(bool color, bool utf8, std::size_t width)
      : color_(color), utf8_(utf8), left_(width), bounded_(width > 0) {}

  // `text` must be printable(). A text that does not fit ends with "…", or with "~" without UTF-8.
  void add(std::string_view text, Style style = Style::plain);
  // Includes the final newline.
  [[nodiscard]] std::string text() const;

 private:
  std::string text_;
  bool color_, utf8_;
  std::size_t left_;
  bool bounded_;
};

}  // namespace nopspan::collector
