// SPDX-License-Identifier: Apache-2.0
// The table of `nopspan top` on a screen: columns, sorting, and narrow terminals.
#include "top/top_table.h"

#include "base/cells.h"
#include "invented_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// Ten seconds with these spans: slow/m once with 9 ms, usual/m five times with 2 ms, quick/n twenty times with 1 us and
// an error each.
TableNumbers three_rows() {
  SpanTable table({Dimension::name, Dimension::model}, 60, 10);
  table.advance(kNoon);
  Entry entry = invented("slow", "m");
  entry.duration_ns = 9'000'000;
  table.add(entry);
  entry = invented("usual", "m");
  entry.duration_ns = 2'000'000;
  for (int i = 0; i < 5; ++i) table.add(entry);
  entry = invented("quick", "n");
  entry.status = kError;
  for (int i = 0; i < 20; ++i) table.add(entry);
  table.advance(kNoon + 10 * kSecond);
  return table.numbers();
}

std::vector<std::string> names(const TableNumbers& table, const TopView& view) {
  std::vector<std::string> found;
  for (const RowNumbers* row : arranged(table, view)) found.push_back(row->texts[0]);
  return found;
}

std::vector<std::string> shown_columns(const TopLayout& layout) {
  std::vector<std::string> ids;
  for (const TopColumn& column : layout.columns) ids.push_back(column.id);
  return ids;
}

TEST(TopTable, SortsNumbersDescendingAndTextsAscendingUnlessReversed) {
  const TableNumbers table = three_rows();
  EXPECT_THAT(names(table, {}), ElementsAre("quick", "usual", "slow"));
  EXPECT_THAT(names(table, {.reverse = true}), ElementsAre("slow", "usual", "quick"));
  EXPECT_THAT(names(table, {.sort = "p99"}), ElementsAre("slow", "usual", "quick"));
  EXPECT_THAT(names(table, {.sort = "name"}), ElementsAre("quick", "slow", "usual"));
  EXPECT_THAT(names(table, {.sort = "name", .reverse = true}), ElementsAre("usual", "slow", "quick"));
  EXPECT_THAT(names(table, {.sort = "model"}), ElementsAre("slow", "usual", "quick"))
      << "equal rows are sorted by their texts";
  EXPECT_THAT(names(table, {.sort = "retries"}), ElementsAre("quick", "slow", "usual"));
  EXPECT_THAT(names(table, {.sort = "tenant"}), ElementsAre("quick", "usual", "slow")) << "it has no such column";
}

TEST(TopTable, SortsByEachOfItsColumns) {
  const TableNumbers table = three_rows();
  for (const TopColumn& column : columns_of(table.by, false)) {
    EXPECT_TRUE(is_column(column.id));
    EXPECT_EQ(names(table, {.sort = column.id}).size(), 3U);
  }
  EXPECT_FALSE(is_column("p95"));
}

TEST(TopTable, ShowsRowsWithAPartOfATextInLettersOfEitherCase) {
  const TableNumbers table = three_rows();
  EXPECT_THAT(names(table, {.filter = "UIC"}), ElementsAre("quick"));
  EXPECT_THAT(names(table, {.filter = "n"}), ElementsAre("quick")) << "its model";
  EXPECT_THAT(names(table, {.filter = "no such"}), IsEmpty());
}

TEST(TopTable, HidesIdleRowsWhereThatIsWanted) {
  SpanTable spans({Dimension::name}, 1, 10);
  spans.advance(kNoon);
  spans.add(invented("idle", ""));
  spans.advance(kNoon + 100 * kSecond);
  spans.add(invented("busy", ""));
  const TableNumbers table = spans.numbers();
  EXPECT_THAT(names(table, {.hide_idle = true}), ElementsAre("busy"));
  EXPECT_THAT(names(table, {}), ElementsAre("busy", "idle"));
}

TEST(TopTable, TellsRatesOfTheWindowAndCountsOfAll) {
  const TableNumbers table = three_rows();
  const RowNumbers& row = *arranged(table, {})[0];
  const auto cell = [&](const char* id, bool total) {
    for (const TopColumn& column : columns_of(table.by, total)) {
      if (column.id == id) return cell_text(column, row, table, total);
    }
    return std::string();
  };
  EXPECT_EQ(cell("spans", false), "2");
  EXPECT_EQ(cell("spans", true), "20");
  EXPECT_EQ(cell("errors", false), "2");
  EXPECT_EQ(cell("errors", true), "20");
  EXPECT_EQ(cell("error-percent", false), "100");
  EXPECT_EQ(cell("max", false), "1.00 us");
  EXPECT_EQ(cell("ttft-p50", false), "-");
}

TEST(TopTable, TellsTheGreatestDurationThereCanBe) {
  SpanTable spans({Dimension::name}, 10, 10);
  Entry entry = invented("a", "");
  entry.duration_ns = UINT64_MAX;
  spans.add(entry);
  const TableNumbers table = spans.numbers();
  EXPECT_EQ(cell_text(columns_of(table.by, true)[5], table.rows[0], table, true), "213504d00h");
}

TEST(TopTable, HasNoRateBeforeAnyTimeHasPassed) {
  SpanTable spans({Dimension::name}, 10, 10);
  spans.add(invented("a", ""));
  const TableNumbers table = spans.numbers();
  EXPECT_EQ(cell_text(columns_of(table.by, false)[1], table.rows[0], table, false), "-");
}

TEST(TopTable, KeepsTheSortedColumnAndFitsWhateverTheWidth) {
  const TableNumbers table = three_rows();
  for (const TopColumn& column : columns_of(table.by, false)) {
    for (std::size_t width = 20; width < 200; ++width) {
      const TopLayout layout = layout_of(table, {.sort = column.id}, width);
      EXPECT_THAT(shown_columns(layout), testing::Contains(column.id)) << width;
      EXPECT_EQ(layout.columns[layout.sorted].id, column.id);
      std::size_t used = (layout.columns.size() - 1) * layout.gap;
      for (const std::size_t one : layout.widths) used += one;
      EXPECT_LE(used, width) << column.id;
    }
    for (std::size_t width = 0; width < 20; ++width)
      EXPECT_FALSE(layout_of(table, {.sort = column.id}, width).columns.empty());
  }
}

TEST(TopTable, LeavesModelsOutWhereThereIsNoRoomForThem) {
  EXPECT_THAT(shown_columns(layout_of(three_rows(), {}, 19)), ElementsAre("name", "spans"));
  EXPECT_THAT(shown_columns(layout_of(three_rows(), {.sort = "model"}, 19)), ElementsAre("model", "spans"));
}

TEST(TopTable, ShowsAllTextsThatFit) {
  SpanTable spans({Dimension::tenant, Dimension::model, Dimension::tool}, 10, 10);
  Entry entry = invented("a", "m");
  entry.tenant = "t";
  spans.add(entry);
  for (std::size_t width = 40; width < 200; ++width) {
    EXPECT_THAT(shown_columns(layout_of(spans.numbers(), {}, width)),
                testing::IsSupersetOf({"tenant", "model", "tool"}))
        << width;
  }
}

TEST(TopTable, ShowsTheUsefulColumnsOnATerminalOf80) {
  SpanTable spans({Dimension::name, Dimension::model}, 10, 10);
  spans.add(invented("agent.operator.iteration", "llama-3"));
  const std::vector<std::string> useful = {"name",          "model", "spans",  "p50",     "p99",
                                           "error-percent", "input", "output", "ttft-p50"};
  const TopLayout layout = layout_of(spans.numbers(), {}, 80);
  EXPECT_EQ(shown_columns(layout), useful);
  EXPECT_EQ(layout.hidden, 6U);
  EXPECT_THAT(shown_columns(layout_of(spans.numbers(), {.sort = "retries"}, 80)), testing::Contains("retries"));
  EXPECT_EQ(layout_of(spans.numbers(), {}, 200).hidden, 0U);
}

TEST(TopTable, SharesTheRoomOfTexts) {
  SpanTable spans({Dimension::name, Dimension::model}, 10, 10);
  spans.add(invented(std::string(100, 'n'), "m"));
  const TopLayout layout = layout_of(spans.numbers(), {}, 60);
  EXPECT_GE(layout.widths[0], 8U);
  EXPECT_EQ(layout.widths[1], 5U);
}

TEST(TopTable, HasCellsAsWideAsTheLayoutSays) {
  SpanTable spans({Dimension::name, Dimension::process}, 10, 1);
  spans.add(invented("\x1b[2Jname", "m"));
  spans.add(invented("in other", "m"));
  const TableNumbers table = spans.numbers();
  const TopLayout layout = layout_of(table, {}, 100);
  for (const auto& cells :
       {header_cells(layout), row_cells(layout, table.rows[0], table, true), other_cells(layout, table, true)}) {
    ASSERT_EQ(cells.size(), layout.widths.size());
    for (std::size_t i = 0; i < cells.size(); ++i) EXPECT_EQ(cells_of(cells[i]), layout.widths[i]);
  }
  EXPECT_THAT(row_cells(layout, table.rows[0], table, true)[0], testing::StartsWith("\\x1b[2Jname"));
  EXPECT_THAT(other_cells(layout, table, true)[0], testing::StartsWith("other"));
}

}  // namespace
}  // namespace nopspan::collector
