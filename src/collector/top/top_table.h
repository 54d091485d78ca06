// SPDX-License-Identifier: Apache-2.0
// Lays out the numbers of `nopspan top` as a table: columns, widths, and the order of rows.
#pragma once

#include "top/span_table.h"

#include <cstddef>
#include <string>
#include <vector>

namespace nopspan::collector {

// The user's choice of rows, of their order, and of numbers.
struct TopView {
  std::string sort = "spans";  // a column's id
  bool reverse = false;        // otherwise numbers descend and texts ascend
  bool total = false;          // numbers since the beginning instead of the window
  bool hide_idle = false;      // hide rows without entries in the window
  std::string filter;          // part of one of the row's texts, ignoring case
};

struct TopColumn {
  std::string id, title;
  bool is_text = false;
  std::size_t index = 0;  // into the row's texts, or into kNumbers (top_table.cpp)
};
// The columns of a table: the grouping's dimensions, then the numbers.
std::vector<TopColumn> columns_of(const Grouping& by, bool total);
// Whether any grouping has this column. column_ids() lists the numbers' ids for a message.
bool is_column(const std::string& id);
std::string column_ids();

// The index of the view's sort column, or of the first number if the columns do not have it.
std::size_t sorted_column(const std::vector<TopColumn>& columns, const TopView& view);

// A cell as text that is safe to print; "-" if there is no value.
std::string cell_text(const TopColumn& column, const RowNumbers& row, const TableNumbers& table, bool total);

// The rows to show, in order. The pointers point into `table`.
std::vector<const RowNumbers*> arranged(const TableNumbers& table, const TopView& view);

// The columns that fit and their widths. The sort column is always among them.
struct TopLayout {
  std::vector<TopColumn> columns;
  std::vector<std::size_t> widths;
  std::size_t gap = 2;     // cells between two columns
  std::size_t sorted = 0;  // index of the sort column
  std::size_t hidden = 0;  // number of columns that do not fit
};
TopLayout layout_of(const TableNumbers& table, const TopView& view, std::size_t width);

// The cells of a line, padded to the widths of the layout: the titles, a row, and the row `other`, whose first text is
// "other".
std::vector<std::string> header_cells(const TopLayout& layout);
std::vector<std::string> row_cells(const TopLayout& layout, const RowNumbers& row, const TableNumbers& table,
                                   bool total);
std::vector<std::string> other_cells(const TopLayout& layout, const TableNumbers& table, bool total);
std::string joined(const TopLayout& layout, const std::vector<std::string>& cells);

}  // namespace nopspan::collector
