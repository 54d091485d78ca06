// SPDX-License-Identifier: Apache-2.0
#include "base/cells.h"

#include "base/utf8.h"

#include <algorithm>
#include <cwchar>
#include <utility>

namespace nopspan::collector {

namespace {

struct Character {
  std::string_view bytes;
  std::size_t cells = 0;
};

// Removes the first character. A byte that is not UTF-8 counts as one cell; printable() never produces one.
Character take(std::string_view& text) {
  const Utf8Character decoded = first_character(text);
  Character character{text.substr(0, decoded.bytes > 0 ? decoded.bytes : 1), 1};
  text.remove_prefix(character.bytes.size());
  if (decoded.bytes <= 1) return character;
  const int cells = wcwidth(static_cast<wchar_t>(decoded.code));
  if (cells >= 0) character.cells = static_cast<std::size_t>(cells);
  return character;
}

}  // namespace

std::size_t cells_of(std::string_view text) {
  std::size_t cells = 0;
  while (!text.empty()) cells += take(text).cells;
  return cells;
}

std::string fit(std::string_view text, std::size_t width, Align align) {
  if (text.size() <= width && is_ascii(text)) {
    std::string shown(width, ' ');
    const std::size_t begin = align == Align::left ? 0 : width - text.size();
    shown.replace(begin, text.size(), text);
    return shown;
  }
  constexpr std::size_t kMostMarks = 2;
  std::string shown;
  std::size_t cells = 0, marks = 0;
  std::size_t room_bytes = 0, room_cells = 0;  // the part of `shown` that leaves room for the ellipsis
  while (!text.empty()) {
    const Character character = take(text);
    if (cells + character.cells > width) {
      shown.resize(room_bytes);
      shown += "…";
      cells = room_cells + 1;
      break;
    }
    marks = character.cells == 0 ? marks + 1 : 0;
    if (marks > kMostMarks || (shown.empty() && marks > 0)) continue;
    shown += character.bytes;
    cells += character.cells;
    if (cells >= width) continue;
    room_bytes = shown.size();
    room_cells = cells;
  }
  if (width == 0) return {};
  const std::string blanks(width - cells, ' ');
  return align == Align::left ? shown + blanks : blanks + shown;
}

std::vector<std::string> wrapped(std::string_view text, std::size_t width, std::size_t indent,
                                 std::string_view separator) {
  const std::string blanks(std::min(indent, width / 3), ' ');
  std::vector<std::string> lines = {""};
  const auto end_line = [&lines] { lines.back().resize(lines.back().find_last_not_of(' ') + 1); };
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::size_t length = std::min(rest.find(separator), rest.size());
    const std::string_view part = rest.substr(0, length + separator.size());
    const std::size_t visible = part.find_last_not_of(' ') + 1;
    if (rest.size() != text.size() && cells_of(lines.back()) + cells_of(part.substr(0, visible)) > width) {
      end_line();
      lines.push_back(blanks);
    }
    lines.back() += part;
    rest.remove_prefix(part.size());
  }
  end_line();
  return lines;
}

std::string ascii_only(std::string_view text) {
  std::string shown;
  while (!text.empty()) {
    const Character character = take(text);
    shown += character.bytes.size() == 1 ? character.bytes : std::string_view("?");
  }
  return shown;
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
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], cells_of(row[i]));
  std::string text;
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const bool is_last = i + 1 == row.size(), is_left = columns_[i].align == Align::left;
      text += is_last && is_left ? row[i] : fit(row[i], widths[i], columns_[i].align);
      text += is_last ? "\n" : "  ";
    }
  }
  return text;
}

}  // namespace nopspan::collector
