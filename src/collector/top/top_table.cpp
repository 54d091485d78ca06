// SPDX-License-Identifier: Apache-2.0
#include "top/top_table.h"

#include "base/cells.h"
#include "base/text.h"

#include <algorithm>
#include <array>
#include <string_view>

namespace nopspan::collector {

namespace {

constexpr std::size_t kWidestText = 40, kNarrowestText = 8;

// A number in the table; negative if there is none.
struct Cell {
  double value = -1;
  enum class Unit { number, ns, percent } unit = Unit::number;
};

// Counts are divided by the second argument: the length of the window in seconds, or 1 for totals.
using Read = Cell (*)(const Numbers&, double);

template <std::uint64_t Tally::*kCount>
Cell count(const Numbers& numbers, double seconds) {
  return {seconds > 0 ? static_cast<double>(numbers.tally.*kCount) / seconds : -1};
}

template <Quantiles Numbers::*kOf, std::uint64_t Quantiles::*kWhich>
Cell quantile(const Numbers& numbers, double) {
  const Quantiles& quantiles = numbers.*kOf;
  return {quantiles.count == 0 ? -1 : static_cast<double>(quantiles.*kWhich), Cell::Unit::ns};
}

Cell error_percent(const Numbers& numbers, double) {
  const auto spans = static_cast<double>(numbers.tally.spans);
  return {spans == 0 ? -1 : 100 * static_cast<double>(numbers.tally.errors) / spans, Cell::Unit::percent};
}

struct NumberColumn {
  const char* id;
  const char* title;        // title for the window, with rates
  const char* total_title;  // title for totals
  Read read;
  unsigned rank;  // a narrow screen has the columns with the lowest ranks
};

// Columns with a lower rank take room from long texts.
constexpr unsigned kUsefulRanks = 7;

constexpr std::array<NumberColumn, 13> kNumbers = {{
    {"spans", "SPANS/s", "SPANS", count<&Tally::spans>, 0},
    {"p50", "P50", "P50", quantile<&Numbers::duration_ns, &Quantiles::p50>, 1},
    {"p90", "P90", "P90", quantile<&Numbers::duration_ns, &Quantiles::p90>, 8},
    {"p99", "P99", "P99", quantile<&Numbers::duration_ns, &Quantiles::p99>, 2},
    {"max", "MAX", "MAX", quantile<&Numbers::duration_ns, &Quantiles::maximum>, 9},
    {"errors", "ERR/s", "ERRORS", count<&Tally::errors>, 7},
    {"error-percent", "ERR%", "ERR%", error_percent, 3},
    {"cancelled", "CANC/s", "CANC", count<&Tally::cancelled>, 12},
    {"input", "IN TOK/s", "IN TOK", count<&Tally::input_tokens>, 6},
    {"output", "OUT TOK/s", "OUT TOK", count<&Tally::output_tokens>, 5},
    {"ttft-p50", "TTFT P50", "TTFT P50", quantile<&Numbers::first_token_ns, &Quantiles::p50>, 4},
    {"ttft-p99", "TTFT P99", "TTFT P99", quantile<&Numbers::first_token_ns, &Quantiles::p99>, 11},
    {"retries", "RETRY/s", "RETRIES", count<&Tally::retries>, 10},
}};

Cell cell_of(const TopColumn& column, const RowNumbers& row, const TableNumbers& table, bool total) {
  const double seconds = total ? 1 : static_cast<double>(table.window_ns) / 1e9;
  return kNumbers[column.index].read(total ? row.total : row.window, seconds);
}

bool has(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [](char a, char b) { return lower_case(a) == lower_case(b); }) != text.end();
}

bool is_shown(const RowNumbers& row, const TopView& view) {
  if (view.hide_idle && row.window.tally.empty()) return false;
  if (view.filter.empty()) return true;
  return std::any_of(row.texts.begin(), row.texts.end(), [&](const auto& text) { return has(text, view.filter); });
}

std::size_t width_of_number(const TopColumn& column) {
  constexpr std::size_t kTime = 7, kCount = 5;  // "14.3 ms", "12.3k"
  const bool is_time = kNumbers[column.index].read(Numbers{}, 1).unit == Cell::Unit::ns;
  return std::max(column.title.size(), is_time ? kTime : kCount);
}

std::size_t widest(const TopColumn& column, const TableNumbers& table) {
  std::size_t width = std::max<std::size_t>(column.title.size(), 5);  // "other"
  for (const RowNumbers& row : table.rows) {
    if (width >= kWidestText) break;
    width = std::max(width, cells_of(cell_text(column, row, table, false)));
  }
  return std::min(width, kWidestText);
}

// Distributes `room` among text columns. Each gets an equal share; what narrow columns do not need goes to the others.
std::vector<std::size_t> shared_out(std::size_t room, const std::vector<TopColumn>& texts, const TableNumbers& table) {
  std::vector<std::size_t> widths, by_width;
  for (const TopColumn& column : texts) {
    by_width.push_back(widths.size());
    widths.push_back(widest(column, table));
  }
  std::sort(by_width.begin(), by_width.end(), [&](std::size_t a, std::size_t b) { return widths[a] < widths[b]; });
  for (std::size_t i = 0; i < by_width.size(); ++i) {
    std::size_t& width = widths[by_width[i]];
    width = std::min(width, room / (by_width.size() - i));
    room -= width;
  }
  return widths;
}

std::vector<std::string> fitted(const TopLayout& layout, std::vector<std::string> cells) {
  for (std::size_t i = 0; i < cells.size(); ++i) {
    cells[i] = fit(cells[i], layout.widths[i], layout.columns[i].is_text ? Align::left : Align::right);
  }
  return cells;
}

}  // namespace

std::vector<TopColumn> columns_of(const Grouping& by, bool total) {
  std::vector<TopColumn> columns;
  for (std::size_t i = 0; i < by.size(); ++i) {
    columns.push_back({name_of(by[i]), upper_case(name_of(by[i])), true, i});
  }
  for (std::size_t i = 0; i < kNumbers.size(); ++i) {
    columns.push_back({kNumbers[i].id, total ? kNumbers[i].total_title : kNumbers[i].title, false, i});
  }
  return columns;
}

bool is_column(const std::string& id) {
  for (unsigned i = 0; i < Dimension::attribute; ++i) {
    if (id == name_of(static_cast<Dimension::Which>(i))) return true;
  }
  return std::any_of(kNumbers.begin(), kNumbers.end(), [&](const NumberColumn& column) { return id == column.id; });
}

std::string column_ids() {
  std::string ids;
  for (const NumberColumn& column : kNumbers) ids += (ids.empty() ? "" : ", ") + std::string(column.id);
  return ids;
}

std::size_t sorted_column(const std::vector<TopColumn>& columns, const TopView& view) {
  auto found =
      std::find_if(columns.begin(), columns.end(), [&](const TopColumn& column) { return column.id == view.sort; });
  if (found == columns.end()) {
    found = std::find_if(columns.begin(), columns.end(), [](const TopColumn& column) { return !column.is_text; });
  }
  return static_cast<std::size_t>(found - columns.begin());
}

std::string cell_text(const TopColumn& column, const RowNumbers& row, const TableNumbers& table, bool total) {
  if (column.is_text) {
    const std::string& text = row.texts[column.index];
    return text.empty() ? "-" : printable(text, kWidestText);
  }
  const Cell cell = cell_of(column, row, table, total);
  if (cell.value < 0) return "-";
  if (cell.unit == Cell::Unit::ns) {
    return duration_text(cell.value < 1.8e19 ? static_cast<std::uint64_t>(cell.value) : UINT64_MAX);
  }
  return number_text(cell.value);
}

std::vector<const RowNumbers*> arranged(const TableNumbers& table, const TopView& view) {
  const std::vector<TopColumn> columns = columns_of(table.by, view.total);
  const TopColumn& column = columns[sorted_column(columns, view)];
  struct Keyed {
    const RowNumbers* row;
    double value;
  };
  std::vector<Keyed> keyed;
  for (const RowNumbers& row : table.rows) {
    if (is_shown(row, view))
      keyed.push_back({&row, column.is_text ? 0 : cell_of(column, row, table, view.total).value});
  }
  std::sort(keyed.begin(), keyed.end(), [&](const Keyed& a, const Keyed& b) {
    const Keyed& first = view.reverse ? b : a;
    const Keyed& second = view.reverse ? a : b;
    if (first.value != second.value) return first.value > second.value;
    if (column.is_text && first.row->texts[column.index] != second.row->texts[column.index]) {
      return first.row->texts[column.index] < second.row->texts[column.index];
    }
    if (a.row->texts != b.row->texts) return a.row->texts < b.row->texts;
    return a.row->process < b.row->process;
  });
  std::vector<const RowNumbers*> rows;
  rows.reserve(keyed.size());
  for (const Keyed& one : keyed) rows.push_back(one.row);
  return rows;
}

TopLayout layout_of(const TableNumbers& table, const TopView& view, std::size_t width) {
  TopLayout layout;
  layout.gap = width < 100 ? 1 : 2;
  const std::vector<TopColumn> all = columns_of(table.by, view.total);
  const TopColumn& sorted = all[sorted_column(all, view)];
  std::vector<TopColumn> texts, numbers;
  for (TopColumn column : all) {
    if (table.roots_only && column.id == "spans") column.title = view.total ? "ROOTS" : "ROOTS/s";
    (column.is_text ? texts : numbers).push_back(column);
  }
  const auto rank = [&](const TopColumn& column) {
    return column.id == sorted.id ? -1 : static_cast<int>(kNumbers[column.index].rank);
  };
  std::vector<TopColumn> by_rank = numbers;
  std::sort(by_rank.begin(), by_rank.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  const auto width_of_texts = [&](std::size_t most) {
    std::size_t sum = 0;
    for (const TopColumn& column : texts) sum += layout.gap + std::min(widest(column, table), most);
    return sum;
  };
  const std::size_t wanted = width_of_texts(kWidestText);
  const std::size_t narrow = std::max(width_of_texts(kNarrowestText), std::min(wanted, width / 4));
  std::size_t used = 0;
  int last_rank = -1;  // of the columns that fit
  for (const TopColumn& column : by_rank) {
    const std::size_t one = layout.gap + width_of_number(column);
    const bool is_useful = kNumbers[column.index].rank < kUsefulRanks;
    const bool is_first = used == 0;
    if (!is_first && used + one + (is_useful ? narrow : wanted) > width) break;
    used += one;
    last_rank = rank(column);
  }
  std::size_t room = width - std::min(width, used);
  while (texts.size() > 1 && room < width_of_texts(kNarrowestText)) {
    texts.erase(texts.end() - (texts.back().id == sorted.id ? 2 : 1));
  }
  room -= std::min(room, (texts.size() - 1) * layout.gap);
  layout.columns = texts;
  layout.widths = shared_out(room, texts, table);
  for (const TopColumn& column : numbers) {
    if (rank(column) > last_rank) continue;
    layout.columns.push_back(column);
    layout.widths.push_back(width_of_number(column));
  }
  layout.hidden = all.size() - layout.columns.size();
  layout.sorted = sorted_column(layout.columns, view);
  return layout;
}

std::vector<std::string> header_cells(const TopLayout& layout) {
  std::vector<std::string> cells;
  for (const TopColumn& column : layout.columns) cells.push_back(column.title);
  return fitted(layout, std::move(cells));
}

std::vector<std::string> row_cells(const TopLayout& layout, const RowNumbers& row, const TableNumbers& table,
                                   bool total) {
  std::vector<std::string> cells;
  for (const TopColumn& column : layout.columns) cells.push_back(cell_text(column, row, table, total));
  return fitted(layout, std::move(cells));
}

std::vector<std::string> other_cells(const TopLayout& layout, const TableNumbers& table, bool total) {
  std::vector<std::string> cells;
  for (const TopColumn& column : layout.columns) {
    if (!column.is_text) {
      cells.push_back(cell_text(column, table.other, table, total));
    } else {
      cells.emplace_back(cells.empty() ? "other" : "");
    }
  }
  return fitted(layout, std::move(cells));
}

std::string joined(const TopLayout& layout, const std::vector<std::string>& cells) {
  std::string text;
  for (const std::string& cell : cells) {
    if (!text.empty()) text.append(layout.gap, ' ');
    text += cell;
  }
  return text;
}

}  // namespace nopspan::collector
