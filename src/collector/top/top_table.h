// SPDX-License-Identifier: Apache-2.0
// How the numbers of `nopspan top` become a table: columns, their order and widths, and which rows come first.
#pragma once

#include "top/span_table.h"

#include <cstddef>
#include <string>
#include <vector>

namespace nopspan::collector {

// Which rows, in which order, and which numbers of them.
struct TopView {
  std::string sort = "spans";  // a column's id
  bool reverse = false;        // else numbers descend and texts ascend
  bool total = false;          // since the beginning, instead of the window
  bool hide_idle = false;      // rows without anything in the window
  std::string filter;          // a part of one of the row's texts, letters of either case
};

struct TopColumn {
  std::string id, title;
  bool is_text = false;
  std::size_t index = 0;  // of a text: among the row's texts. Of a number: see top_table.cpp
};
// The grouping's dimensions, then the numbers.
std::vector<TopColumn> columns_of(const Grouping& by, bool total);
// Whether some grouping's table has such a column; and all ids, for a message.
bool is_column(const std::string& id);
std::string column_ids();

// For people: printable, "-" for what there is none of.
std::string cell_text(const TopColumn& column, const RowNumbers& row, const TableNumbers& table, bool total);

// What is shown, in its order. Pointers into `table`.
std::vector<const RowNumbers*> arranged(const TableNumbers& table, const TopView& view);
[[nodiscard]] bool has_anything(const RowNumbers& row);

// Which columns fit, and how wide they are. What `view` sorts by is among them.
struct TopLayout {
  std::vector<TopColumn> columns;
  std::vector<std::size_t> widths;
  std::size_t gap = 2;     // cells between two
  std::size_t sorted = 0;  // which of `columns` the rows are sorted by
};
TopLayout layout_of(const TableNumbers& table, const TopView& view, std::size_t width);

// The cells of a line, each as wide as the layout says: of the titles, of a row, and of what has no row (its first text
// is "other").
std::vector<std::string> header_cells(const TopLayout& layout);
std::vector<std::string> row_cells(const TopLayout& layout, const RowNumbers& row, const TableNumbers& table,
                                   bool total);
std::vector<std::string> other_cells(const TopLayout& layout, const TableNumbers& table, bool total);

}  // namespace nopspan::collector
