// SPDX-License-Identifier: Apache-2.0
// Measures texts in the cells of a terminal, and aligns them. All functions take UTF-8 as printable() returns it, and
// use the locale's LC_CTYPE for the width of a character.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The number of cells that `text` occupies.
std::size_t cells_of(std::string_view text);

enum class Align { left, right };
// Returns exactly `width` cells. A shorter text is padded with blanks, a longer one is cut and ends with "…". Combining
// marks stay with the character before them, at most two per character.
std::string fit(std::string_view text, std::size_t width, Align align = Align::left);

// Breaks a text into lines of at most `width` cells, after a `separator`. All lines but the first begin with `indent`
// blanks. A part without a separator is not broken.
std::vector<std::string> wrapped(std::string_view text, std::size_t width, std::size_t indent = 2,
                                 std::string_view separator = " ");

// Replaces each character beyond ASCII with "?", for terminals without UTF-8.
std::string ascii_only(std::string_view text);

// A table with aligned columns. Each column is as wide as its widest text.
class TextTable {
 public:
  struct Column {
    std::string heading;
    Align align = Align::left;
  };

  explicit TextTable(std::vector<Column> columns);
  void add(std::vector<std::string> row);
  [[nodiscard]] std::string text() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace nopspan::collector
