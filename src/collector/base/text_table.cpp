// SPDX-License-Identifier: Apache-2.0
#include "base/text_table.h"

#include "base/cells.h"

#include <algorithm>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::string_view kGap = "  ";

}  // namespace

TextTable::TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {
  std::vector<std::string> headings;
  for (const Column& column : columns_) headings.push_back(column.heading);
  rows_.push_back(std::move(headings));
}

void TextTable::add(std::vector<std::string> row) {
  row.resize(columns_.size());
  rows_.push_back(std::move(row));
}

std::string TextTable::text() const {
  std::vector<std::size_t> widths(columns_.size());
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], cells_of(row[i]));
  std::string text;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - cells_of(row[i]), ' ');
      const bool is_last = i + 1 == row.size();
      if (columns_[i].align == Align::right) text += padding;
      text += row[i];
      if (columns_[i].align == Align::left && !is_last) text += padding;
      if (!is_last) text += kGap;
    }
    text += '\n';
  }
  return text;
}

}  // namespace nopspan::collector
