// SPDX-License-Identifier: Apache-2.0
#include "base/text_table.h"

#include <algorithm>
#include <cwchar>
#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::string_view kGap = "  ";

}  // namespace

std::size_t columns_of(std::string_view text) {
  std::mbstate_t state{};
  std::size_t columns = 0;
  while (!text.empty()) {
    wchar_t character = 0;
    const std::size_t length = std::mbrtowc(&character, text.data(), text.size(), &state);
    if (length == 0 || length > text.size()) {  // not in this locale
      columns += static_cast<std::size_t>((static_cast<unsigned char>(text.front()) & 0xc0U) != 0x80U);
      text.remove_prefix(1);
      state = {};
      continue;
    }
    columns += static_cast<std::size_t>(std::max(wcwidth(character), 0));
    text.remove_prefix(length);
  }
  return columns;
}

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
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns_of(row[i]));
  std::string text;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string padding(widths[i] - columns_of(row[i]), ' ');
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
