// SPDX-License-Identifier: Apache-2.0
// Lines for a terminal, optionally with colours, cut to the terminal's width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace nopspan::collector {

enum class Style : std::uint8_t { plain, bold, dim, red, yellow, cyan };

class StyledLine {
 public:
  // Writes at the end of `to`, which must outlive this object. `width` is in cells. 0 means no limit.
  StyledLine(std::string& to, bool color, bool utf8, std::size_t width)
      : text_(to), width_(width), left_(width), color_(color), utf8_(utf8) {}

  // `text` must be printable(). A text that does not fit ends with "…", or with "~" without UTF-8.
  void add(std::string_view text, Style style = Style::plain);
  // The same for a text in parts.
  void add(std::initializer_list<std::string_view> parts, Style style = Style::plain);
  // Begins the next line.
  void end();

 private:
  [[nodiscard]] std::string_view sequence_for(Style style) const;

  std::string& text_;
  const std::size_t width_;
  std::size_t left_;
  const bool color_, utf8_;
};

}  // namespace nopspan::collector
