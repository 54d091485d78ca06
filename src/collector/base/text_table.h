// SPDX-License-Identifier: Apache-2.0
// A table of texts with aligned columns.
#pragma once

#include <string>
#include <vector>

namespace nopspan::collector {

// Each column is as wide as its widest text. Texts must be printable (text.h).
class TextTable {
 public:
  enum class Align : unsigned char { left, right };
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
