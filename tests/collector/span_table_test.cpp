// SPDX-License-Identifier: Apache-2.0
// The table behind `nopspan top`: rows, rates, quantiles, the window, and limits.
#include "top/span_table.h"

#include "base/failure.h"
#include "base/text.h"
#include "invented_spans.h"
#include "kept_entry.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

const Grouping kByNameAndModel = {Dimension::name, Dimension::model};

// A table at kNoon.
struct Table : SpanTable {
  explicit Table(Grouping by = kByNameAndModel, unsigned window = 10, std::size_t rows = 1000)
      : SpanTable(std::move(by), window, rows) {
    advance(kNoon);
  }
  // The only row with these texts.
  [[nodiscard]] RowNumbers row(const std::vector<std::string>& texts) const {
    for (RowNumbers& row : numbers().rows) {
      if (row.texts == texts) return row;
    }
    ADD_FAILURE() << "no such row";
    return {};
  }
};

void expect_right(const Quantiles& estimate, std::vector<std::uint64_t> values) {
  std::sort(values.begin(), values.end());
  EXPECT_EQ(estimate.count, values.size());
  EXPECT_EQ(estimate.maximum, values.back());
  for (const auto& [percent, value] : {std::pair(50U, estimate.p50), {90U, estimate.p90}, {99U, estimate.p99}}) {
    // The smallest of the values that at least `percent` per cent of them do not exceed.
    const auto exact = static_cast<double>(values[(values.size() * percent + 99) / 100 - 1]);
    EXPECT_NEAR(static_cast<double>(value), exact, 0.02 * exact) << percent;
  }
}

TEST(SpanTable, TellsQuantilesOfDurationsWithin2Percent) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> usual(15, 2);
  for (const std::size_t count : {1U, 2U, 10U, 99U, 100U, 101U, 5000U}) {
    Table table;
    std::vector<std::uint64_t> durations, first_tokens;
    for (std::size_t i = 0; i < count; ++i) {
      durations.push_back(static_cast<std::uint64_t>(usual(random)));
      first_tokens.push_back(static_cast<std::uint64_t>(usual(random)));
      Entry entry = invented("llm.chat", "m");
      entry.duration_ns = durations.back();
      entry.has_first_token = true;
      entry.first_token_ns = first_tokens.back();
      table.add(entry);
    }
    const RowNumbers row = table.row({"llm.chat", "m"});
    expect_right(row.window.duration_ns, durations);
    expect_right(row.total.duration_ns, durations);
    expect_right(row.window.first_token_ns, first_tokens);
    expect_right(row.total.first_token_ns, first_tokens);
  }
}

TEST(SpanTable, TellsExtremeDurations) {
  Table table;
  for (const std::uint64_t duration : {std::uint64_t{0}, std::uint64_t{1}, UINT64_MAX}) {
    Entry entry = invented("a", "");
    entry.duration_ns = duration;
    table.add(entry);
  }
  const RowNumbers row = table.row({"a", ""});
  EXPECT_EQ(row.window.duration_ns.p50, 1U);
  EXPECT_EQ(row.window.duration_ns.maximum, UINT64_MAX);
  EXPECT_EQ(row.window.tally.duration_sum_ns, UINT64_MAX) << "a sum that overflows stays at the maximum";
}

TEST(SpanTable, TellsQuantilesOfTheWindowAndOfAll) {
  Table table(kByNameAndModel, 3);
  std::vector<std::uint64_t> all;
  for (std::uint64_t second = 0; second < 20; ++second) {
    table.advance(kNoon + second * kSecond);
    for (std::uint64_t i = 1; i <= 100; ++i) {
      Entry entry = invented("a", "m");
      entry.duration_ns = (second + 1) * 1'000'000 + i;
      all.push_back(entry.duration_ns);
      table.add(entry);
    }
  }
  const RowNumbers row = table.row({"a", "m"});
  expect_right(row.total.duration_ns, all);
  // Three whole seconds, and the elapsed part of the current one.
  expect_right(row.window.duration_ns, {all.end() - 400, all.end()});
}

TEST(SpanTable, ForgetsWhatHasLeftTheWindow) {
  Table table(kByNameAndModel, 10);
  for (int i = 0; i < 5; ++i) table.add(invented("a", "m"));
  for (std::uint64_t second = 1; second <= 10; ++second) {
    table.advance(kNoon + second * kSecond);
    EXPECT_EQ(table.row({"a", "m"}).window.tally.spans, 5U) << second;
  }
  table.advance(kNoon + 11 * kSecond);
  const RowNumbers row = table.row({"a", "m"});
  EXPECT_EQ(row.window.tally.spans, 0U);
  EXPECT_EQ(row.window.duration_ns.count, 0U);
  EXPECT_EQ(row.total.tally.spans, 5U);
  EXPECT_EQ(row.total.duration_ns.count, 5U);
}

TEST(SpanTable, SaysHowLongItsWindowIs) {
  Table table(kByNameAndModel, 10);
  EXPECT_EQ(table.numbers().window_ns, 0U);
  table.advance(kNoon + kSecond / 2);
  EXPECT_EQ(table.numbers().window_ns, kSecond / 2);
  for (std::uint64_t second = 1; second <= 10; ++second) table.advance(kNoon + second * kSecond + kSecond / 4);
  EXPECT_EQ(table.numbers().window_ns, 10 * kSecond + kSecond / 4);
  table.advance(kNoon + 11 * kSecond + kSecond / 2);
  EXPECT_EQ(table.numbers().window_ns, 10 * kSecond + kSecond / 4);
  EXPECT_EQ(table.numbers().since_ns, 11 * kSecond + kSecond / 2);
}

TEST(SpanTable, HasTheRateOfASteadyProgramAfterItWasHeldUp) {
  Table table(kByNameAndModel, 10);
  std::uint64_t elapsed = 0;
  for (const std::uint64_t seconds : {1, 1, 4, 1, 1, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 20, 1, 1, 1}) {
    for (std::uint64_t i = 0; i < 10 * seconds; ++i) table.add(invented("a", "m"));
    elapsed += seconds * kSecond;
    table.advance(kNoon + elapsed);
    const TableNumbers numbers = table.numbers();
    EXPECT_EQ(numbers.window.spans * kSecond, 10 * numbers.window_ns) << "after " << elapsed / kSecond << " s";
    EXPECT_EQ(numbers.total.spans * kSecond, 10 * elapsed);
  }
}

TEST(SpanTable, GoesOnWhenTheClockIsSetBack) {
  Table table(kByNameAndModel, 2);
  table.advance(kNoon - 3600 * kSecond);
  table.add(invented("a", "m"));
  table.advance(kNoon - 3599 * kSecond);
  EXPECT_EQ(table.numbers().since_ns, kSecond);
  table.advance(kNoon - 3597 * kSecond);
  EXPECT_EQ(table.row({"a", "m"}).window.tally.spans, 0U);
}

TEST(SpanTable, CountsTokensOnceAFact) {
  Table table;
  Entry outer = invented("agent.run", "m");
  outer.has_usage = true;
  outer.usage.input = 100;
  outer.usage.output = 20;
  Entry inner = outer;
  inner.name = "llm.chat";
  inner.counts_tokens = true;
  table.add(inner);
  table.add(outer);
  EXPECT_EQ(table.row({"llm.chat", "m"}).window.tally.input_tokens, 100U);
  EXPECT_EQ(table.row({"llm.chat", "m"}).window.tally.output_tokens, 20U);
  EXPECT_EQ(table.row({"agent.run", "m"}).window.tally.input_tokens, 0U);
  EXPECT_EQ(table.numbers().total.input_tokens, 100U);
}

TEST(SpanTable, TakesBackTokensFromTheWindowTheTotalAndTheRowOther) {
  Entry entry = invented("a", "m");
  entry.has_usage = entry.counts_tokens = true;
  entry.usage.input = 100;
  entry.usage.output = 20;
  for (const std::uint64_t later : {0, 1, 10, 11, 100}) {
    Table table;
    table.add(entry);
    const std::uint64_t row = table.add(entry);
    table.advance(kNoon + later * kSecond);
    table.take_back_tokens(row, entry.usage, 0);
    EXPECT_EQ(table.row({"a", "m"}).total.tally.input_tokens, 100U) << later;
    EXPECT_EQ(table.row({"a", "m"}).total.tally.output_tokens, 20U) << later;
    EXPECT_EQ(table.row({"a", "m"}).window.tally.input_tokens, later <= 10 ? 100U : 0U) << later;
    EXPECT_EQ(table.numbers().total.input_tokens, 100U) << later;
  }
}

TEST(SpanTable, TakesBackTokensOfARowThatWasReplacedFromOther) {
  Table table(kByNameAndModel, 10, 1);
  Entry entry = invented("a", "m");
  entry.has_usage = entry.counts_tokens = true;
  entry.usage.input = 100;
  const std::uint64_t first = table.add(entry);
  EXPECT_NE(first, 0U);
  EXPECT_EQ(table.add(invented("b", "m")), 0U) << "other";
  table.advance(kNoon + 100 * kSecond);
  table.add(invented("b", "m"));
  table.advance(kNoon + 200 * kSecond);
  entry.usage.input = 7;
  table.add(entry);  // in a new row with the same key
  EXPECT_EQ(table.numbers().total.input_tokens, 107U);
  entry.usage.input = 100;
  table.take_back_tokens(first, entry.usage, 0);
  EXPECT_EQ(table.row({"a", "m"}).total.tally.input_tokens, 7U);
  EXPECT_EQ(table.numbers().other.total.tally.input_tokens, 0U);
  EXPECT_EQ(table.numbers().total.input_tokens, 7U);
}

TEST(SpanTable, CountsARetryForTheSpanThatItIsIn) {
  Table table;
  Entry retry = invented("llm.adapter.retry", "m", Kind::retry);
  retry.text = "llm.chat";
  table.add(retry);
  retry.text = "";
  table.add(retry);
  EXPECT_EQ(table.row({"llm.chat", "m"}).window.tally.retries, 1U);
  EXPECT_EQ(table.row({"llm.chat", "m"}).window.tally.spans, 0U);
  EXPECT_EQ(table.row({"llm.adapter.retry", "m"}).window.tally.retries, 1U);
}

TEST(SpanTable, HasRowsOfRootSpansAndTheTokensOfAll) {
  SpanTable table({Dimension::model}, 10, 10, true);
  table.advance(kNoon);
  Entry inner = invented("llm.step", "m");
  inner.status = kError;
  inner.duration_ns = 5;
  inner.has_usage = inner.counts_tokens = inner.has_first_token = true;
  inner.usage.input = 100;
  inner.first_token_ns = 3;
  table.add(inner);
  table.add(invented("inner", "other"));
  Entry outer = invented("llm.chat", "m");
  outer.span_id = outer.root_id;
  table.add(outer);
  outer.flags = NOPSPAN_FLAG_ORPHAN;
  table.add(outer);
  for (const std::uint64_t later : {0, 100}) {
    table.advance(kNoon + later * kSecond);
    const TableNumbers numbers = table.numbers();
    EXPECT_TRUE(numbers.roots_only);
    ASSERT_THAT(numbers.rows, SizeIs(1));
    const Numbers& row = numbers.rows[0].total;
    EXPECT_EQ(row.tally.spans, 1U);
    EXPECT_EQ(row.tally.errors, 0U);
    EXPECT_EQ(row.duration_ns.maximum, 1000U);
    EXPECT_EQ(row.duration_ns.count, 1U);
    EXPECT_EQ(row.tally.input_tokens, 100U);
    EXPECT_EQ(row.first_token_ns.p50, 3U);
    EXPECT_EQ(numbers.total.spans, 4U) << "spans in no row are in the sums";
    EXPECT_EQ(numbers.total.errors, 1U);
    EXPECT_EQ(numbers.total.orphans, 1U);
    EXPECT_EQ(numbers.window.spans, later == 0 ? 4U : 0U);
  }
}

TEST(SpanTable, CountsRootSpansAsRequestsButOrphansAndThoseWithARemoteParent) {
  Table table;
  Entry entry = invented("a", "m");
  entry.span_id = entry.root_id = 5;
  table.add(entry);
  entry.span_id = 6;
  table.add(entry);
  entry.span_id = entry.root_id = 7;
  entry.flags = NOPSPAN_FLAG_ORPHAN;
  table.add(entry);
  entry.flags = NOPSPAN_FLAG_REMOTE_PARENT;
  table.add(entry);
  table.add(entry);
  const Tally tally = table.row({"a", "m"}).window.tally;
  EXPECT_EQ(tally.requests, 1U);
  EXPECT_EQ(tally.received, 2U);
  EXPECT_EQ(tally.orphans, 1U);
  EXPECT_EQ(tally.spans, 5U);
}

TEST(SpanTable, TakesAnEnginesStepForNoRequest) {
  Table table;
  Entry entry = invented("engine.step", "");
  entry.span_id = entry.root_id = 5;
  entry.parent_id = 0;
  const nopspan_link link{};
  entry.links = {reinterpret_cast<const char*>(&link), sizeof(link)};
  table.add(entry);
  entry.links = {};  // an engine that reports no members
  table.add(entry);
  entry.flags = NOPSPAN_FLAG_ORPHAN;
  table.add(entry);
  entry.name = "my.step";
  const nopspan_step facts{};
  entry.step = &facts;
  table.add(entry);
  EXPECT_EQ(table.row({"engine.step", ""}).window.tally.spans, 3U);
  EXPECT_EQ(table.numbers().window.requests, 0U);
  EXPECT_EQ(table.numbers().window.orphans, 0U);
}

TEST(SpanTable, GroupsByWhatIsAsked) {
  Entry entry = invented("a", "m");
  entry.tenant = "t";
  entry.engine = "e";
  Table by_all({Dimension::engine, Dimension::process, Dimension::name, Dimension::tenant, Dimension::model});
  by_all.add(entry);
  EXPECT_EQ(by_all.row({"e", "program 100", "a", "t", "m"}).total.tally.spans, 1U);

  Table by_tenant({Dimension::tenant});
  by_tenant.add(entry);
  by_tenant.add(invented("b", "n"));
  EXPECT_EQ(by_tenant.row({"t"}).total.tally.spans, 1U);
  EXPECT_EQ(by_tenant.row({""}).total.tally.spans, 1U);
}

TEST(SpanTable, TellsAProcessFromALaterOneWithItsPid) {
  Table table({Dimension::process});
  const ProcessPointer former = invented_process(100, 1), later = invented_process(100, 2);
  Entry entry = invented("a", "m");
  for (const ProcessPointer* process : {&former, &later, &later}) {
    entry.process = process;
    table.add(entry);
  }
  ASSERT_THAT(table.numbers().rows, SizeIs(2));
  EXPECT_THAT(table.numbers().rows[0].texts, ElementsAre("program 100"));
  EXPECT_NE(table.numbers().rows[0].process, table.numbers().rows[1].process);
}

TEST(SpanTable, HasAsManyRowsAsAllowedAndTheRestInOther) {
  Table table(kByNameAndModel, 10, 10);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 100; ++i) table.add(invented("name " + std::to_string(i), "m"));
  }
  const TableNumbers numbers = table.numbers();
  ASSERT_THAT(numbers.rows, SizeIs(10));
  std::uint64_t sum = numbers.other.total.tally.spans;
  EXPECT_EQ(sum, 270U);
  EXPECT_EQ(numbers.other.window.duration_ns.count, 270U);
  for (const RowNumbers& row : numbers.rows) sum += row.total.tally.spans;
  EXPECT_EQ(sum, 300U);
  EXPECT_EQ(numbers.total.spans, 300U);
  EXPECT_EQ(numbers.window.spans, 300U);
  EXPECT_EQ(numbers.evicted, 0U);
}

TEST(SpanTable, GivesTheRowThatIsIdleForLongestToANewOne) {
  Table table(kByNameAndModel, 2, 2);
  table.add(invented("first", "m"));
  table.advance(kNoon + kSecond);
  table.add(invented("second", "m"));
  table.advance(kNoon + 100 * kSecond);
  table.add(invented("third", "m"));
  const TableNumbers numbers = table.numbers();
  ASSERT_THAT(numbers.rows, SizeIs(2));
  EXPECT_EQ(table.row({"second", "m"}).total.tally.spans, 1U);
  EXPECT_EQ(table.row({"third", "m"}).total.tally.spans, 1U);
  EXPECT_EQ(numbers.evicted, 1U);
  EXPECT_EQ(numbers.other.total.tally.spans, 1U);
  EXPECT_EQ(numbers.other.total.duration_ns.count, 1U);
  EXPECT_EQ(numbers.total.spans, 3U);
}

TEST(SpanTable, KeepsRowsThatHaveSomethingInTheWindow) {
  Table table(kByNameAndModel, 2, 1);
  table.add(invented("first", "m"));
  table.advance(kNoon + 2 * kSecond);
  table.add(invented("second", "m"));
  EXPECT_EQ(table.row({"first", "m"}).total.tally.spans, 1U);
  EXPECT_EQ(table.numbers().other.total.tally.spans, 1U);
}

TEST(SpanTable, HasARowForAProcessThatCreatedFewerThanAnother) {
  Table table(kByNameAndModel, 10, 100);
  const ProcessPointer steady = invented_process(1), flood = invented_process(2);
  const auto add = [&table](const ProcessPointer& process, const std::string& name, std::uint64_t duration_ns) {
    Entry entry = invented(name, "m");
    entry.process = &process;
    entry.duration_ns = duration_ns;
    table.add(entry);
  };
  for (int i = 0; i < 1000; ++i) add(flood, "flood " + std::to_string(i), 1000);
  for (int i = 0; i < 10; ++i) {
    add(steady, "steady " + std::to_string(i), 5'000'000);
    add(flood, "more " + std::to_string(i), 1000);
  }
  for (int i = 0; i < 10; ++i) EXPECT_EQ(table.row({"steady " + std::to_string(i), "m"}).window.tally.spans, 1U);
  EXPECT_EQ(table.row({"flood 0", "m"}).window.tally.spans, 1U) << "its newest rows make room";
  TableNumbers numbers = table.numbers();
  ASSERT_THAT(numbers.rows, SizeIs(100));
  EXPECT_EQ(numbers.evicted, 10U);
  EXPECT_EQ(numbers.other.window.tally.spans, 920U);
  EXPECT_EQ(numbers.other.window.duration_ns.count, 920U);
  EXPECT_EQ(numbers.window.spans, 1020U);
  EXPECT_EQ(numbers.total.spans, 1020U);

  // Each has half of the rows at most, and neither takes rows from the other any more.
  for (int i = 10; i < 200; ++i) {
    add(steady, "steady " + std::to_string(i), 5'000'000);
    add(flood, "again " + std::to_string(i), 1000);
  }
  EXPECT_EQ(table.row({"steady 49", "m"}).window.tally.spans, 1U);
  EXPECT_EQ(table.row({"flood 49", "m"}).window.tally.spans, 1U);
  numbers = table.numbers();
  EXPECT_EQ(numbers.evicted, 50U);
  EXPECT_EQ(numbers.window.spans, 1400U);

  table.advance(kNoon + 100 * kSecond);
  numbers = table.numbers();
  EXPECT_EQ(numbers.window.spans, 0U);
  EXPECT_EQ(numbers.total.spans, 1400U);
  EXPECT_EQ(numbers.other.total.duration_ns.count, 1300U);
}

TEST(SpanTable, KeepsIdleRowsFromAProcessThatCreatedHalfOfAll) {
  Table table(kByNameAndModel, 2, 10);
  const ProcessPointer rare = invented_process(1), flood = invented_process(2);
  Entry entry = invented("rare", "m");
  entry.process = &rare;
  table.add(entry);
  entry.process = &flood;
  for (std::uint64_t second = 0; second < 100; ++second) {
    table.advance(kNoon + second * kSecond);
    for (std::uint64_t i = 0; i < 20; ++i) {
      const std::string name = "flood " + std::to_string(second * 20 + i);
      entry.name = name;
      table.add(entry);
    }
  }
  EXPECT_EQ(table.row({"rare", "m"}).total.tally.spans, 1U);
  EXPECT_EQ(table.numbers().total.spans, 2001U);
  EXPECT_GT(table.numbers().evicted, 100U) << "it replaces its own idle rows";
}

TEST(SpanTable, CountsDurationsThatItsMemoryHasNoRoomFor) {
  // Each row has values in all octaves in each second.
  constexpr std::size_t kRows = 700;
  Table table(kByNameAndModel, 10, kRows);
  for (std::uint64_t second = 0; second < 8; ++second) {
    table.advance(kNoon + second * kSecond);
    for (std::size_t row = 0; row < kRows; ++row) {
      const std::string name = "name " + std::to_string(row);
      Entry entry = invented(name, "m");
      for (unsigned bit = 0; bit < 64; ++bit) {
        entry.duration_ns = std::uint64_t{1} << bit;
        table.add(entry);
      }
    }
  }
  const TableNumbers numbers = table.numbers();
  EXPECT_EQ(numbers.total.spans, 8 * kRows * 64);
  EXPECT_GT(numbers.total.unplaced, 0U);
  std::uint64_t placed = 0;
  for (const RowNumbers& row : numbers.rows) placed += row.total.duration_ns.count;
  EXPECT_EQ(placed + numbers.total.unplaced, numbers.total.spans);
  // When these values have left the window, there is room again.
  table.advance(kNoon + 100 * kSecond);
  table.add(invented("name 0", "m"));
  EXPECT_EQ(table.row({"name 0", "m"}).window.duration_ns.count, 1U);
}

TEST(SpanTable, CutsEndlessTexts) {
  Table table;
  const std::string endless(5000, 'x');
  table.add(invented(endless, endless));
  table.add(invented(endless + "y", endless));
  ASSERT_THAT(table.numbers().rows, SizeIs(1));
  EXPECT_THAT(table.numbers().rows[0].texts[0], SizeIs(RowKeyView::kMostBytes));
}

TEST(SpanTable, ShowsTheHistogramOfARow) {
  Table table(kByNameAndModel, 2);
  Entry entry = invented("a", "m");
  entry.duration_ns = 5;
  table.add(entry);
  table.advance(kNoon + 100 * kSecond);
  entry.duration_ns = 7;
  table.add(entry);
  table.add(entry);
  const auto detail = table.detail({"a", "m"}, 0);
  ASSERT_TRUE(detail);
  EXPECT_THAT(detail->window, ElementsAre(std::pair<std::size_t, std::uint64_t>(7, 2)));
  EXPECT_THAT(detail->total,
              ElementsAre(std::pair<std::size_t, std::uint64_t>(5, 1), std::pair<std::size_t, std::uint64_t>(7, 2)));
  EXPECT_EQ(detail->numbers.total.tally.spans, 3U);
  EXPECT_FALSE(table.detail({"b", "m"}, 0));
  EXPECT_TRUE(table.detail({}, 0)) << "of other";
}

TEST(Grouping, HasLabelsAttributesToolsAndErrors) {
  const std::string attributes =
      text_attribute("route", "/chat") + integer_attribute("http.status_code", 503) + integer_attribute("shard", -2);
  Entry entry = invented("a", "m");
  entry.attributes = attributes;
  entry.text = "search";
  entry.error_type = "timeout";
  const Grouping by = parse_grouping("route,tool,error,http.status_code,shard,nosuch,model");
  SpanTable table(by, 10, 10);
  table.add(entry);
  entry.kind = Kind::retry;  // its text is the name of a span, and its attributes are those of an event
  table.add(entry);
  const TableNumbers numbers = table.numbers();
  ASSERT_EQ(numbers.rows.size(), 2U);
  const RowNumbers& spans = numbers.rows[numbers.rows[0].total.tally.spans == 1 ? 0 : 1];
  EXPECT_THAT(spans.texts, ElementsAre("/chat", "search", "timeout", "503", "-2", "", "m"));
}

TEST(Grouping, IsReadFromText) {
  EXPECT_THAT(parse_grouping("model"), ElementsAre(Dimension::model));
  EXPECT_THAT(parse_grouping("process,name"), ElementsAre(Dimension::process, Dimension::name));
  EXPECT_EQ(to_text({Dimension::tenant, Dimension::engine}), "tenant,engine");
  EXPECT_THAT(parse_grouping("tool,error,route"), ElementsAre(Dimension::tool, Dimension::error, Dimension("route")));
  EXPECT_EQ(to_text(parse_grouping("http.status_code,name")), "http.status_code,name");
}

TEST(Grouping, IsRefusedWithWordsToHelp) {
  for (const char* text : {"", "name,", ",name", "errors", "name,name", "route,route", "name, model",
                           "a,b,c,d,e,f,g,h,i", "\x1b[2J", "route\n", "\xff"}) {
    try {
      parse_grouping(text);
      ADD_FAILURE() << text;
    } catch (const Failure& failure) {
      EXPECT_EQ(failure.exit_status, Failure::kUsageError);
      EXPECT_THAT(failure.what(), testing::HasSubstr("--by"));
      EXPECT_EQ(failure.what(), printable(failure.what())) << "a file of hist --json may have any text";
    }
  }
}

}  // namespace
}  // namespace nopspan::collector
