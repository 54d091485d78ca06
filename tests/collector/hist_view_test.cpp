// SPDX-License-Identifier: Apache-2.0
// Histograms as text: bars, tables, and their headings.
#include "hist/hist_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::HasSubstr;
using testing::Not;

HistTable table_of(const std::string& name, const std::vector<std::uint64_t>& times) {
  HistTable table;
  table.by = {Dimension::name};
  table.of = find_quantity("duration");
  for (const std::uint64_t time : times) table.rows[{name}].add({time, kOk, ""});
  return table;
}

HistStyle ascii(std::size_t width = 60) {
  HistStyle style;
  style.width = width;
  style.blocks = false;
  return style;
}

// The lines with bars: "   1.02 us  3 ###".
std::vector<std::string> bars_in(const std::string& text) {
  std::vector<std::string> bars;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("  ") && !line.starts_with("  p")) bars.push_back(line);
  }
  return bars;
}

TEST(HistView, ShowsAFewOctavesByHalves) {
  const std::string text = to_text(table_of("llm.chat", {1024, 1100, 1536, 3000}), ascii(44));
  EXPECT_EQ(bars_in(text), (std::vector<std::string>{"   1.02 us  2 ##############################",
                                                     "   1.54 us  1 ###############", "   2.05 us  1 ###############"}))
      << text;
}

TEST(HistView, ShowsNumbersWithoutAUnitOfTime) {
  HistTable table = table_of("engine.step", {1024, 3000});
  table.of = find_quantity("step-tokens");
  const std::string text = to_text(table, ascii(44));
  EXPECT_THAT(text, HasSubstr("Tokens of engine steps, by name"));
  EXPECT_THAT(text, HasSubstr("p50 1024  p90 3000  p99 3000  min 1024  max 3000  mean 2012"));
}

TEST(HistView, ShowsPercentsAndKeysOfAttributes) {
  HistTable table = table_of("engine.step", {50, 50});
  table.of = find_quantity("acceptance");
  std::string text = to_text(table, ascii(44));
  EXPECT_THAT(text, HasSubstr("Share of the drafted tokens"));
  EXPECT_THAT(text, HasSubstr("p50 50 %  p90 50 %  p99 50 %  min 50 %  max 50 %  mean 50 %"));
  EXPECT_THAT(bars_in(text).front(), HasSubstr("48 %  2 #"));
  table.of = find_quantity("tokens");
  text = to_text(table, ascii(44));
  EXPECT_THAT(text, testing::StartsWith("nopspan.tokens of spans and events, by name"));
  EXPECT_THAT(text, HasSubstr("p50 50  p90 50"));
}

TEST(HistView, HasOneBarForEachSmallNumber) {
  HistTable table = table_of("engine.request", {0, 1, 3});
  table.of = find_quantity("preemptions");
  EXPECT_EQ(bars_in(to_text(table, ascii(44))),
            (std::vector<std::string>{"         0  1 ##############################",
                                      "         1  1 ##############################", "         2  0",
                                      "         3  1 ##############################"}));
}

TEST(HistView, ShowsManyOctavesWhole) {
  const auto bars = bars_in(to_text(table_of("llm.chat", {1, 1'000'000}), ascii()));
  ASSERT_EQ(bars.size(), 20U);
  EXPECT_THAT(bars.front(), HasSubstr("1 ns  1 #"));
  EXPECT_THAT(bars.at(5), HasSubstr("32 ns  0"));
  EXPECT_THAT(bars.back(), HasSubstr("524 us  1 #"));
}

TEST(HistView, ShowsTheWholeRangeOfTimes) {
  const auto bars = bars_in(to_text(table_of("x", {0, UINT64_MAX}), ascii()));
  ASSERT_FALSE(bars.empty());
  EXPECT_THAT(bars.front(), HasSubstr(" 0 ns  1 #"));
  EXPECT_THAT(bars.back(), HasSubstr(" 1 #"));
}

TEST(HistView, LetsEachTimeBeSeen) {
  std::vector<std::uint64_t> times(100'000, 1000);
  times.push_back(5000);
  EXPECT_THAT(bars_in(to_text(table_of("x", times), ascii())).back(), HasSubstr("1 #"));
  HistStyle blocks = ascii();
  blocks.blocks = true;
  EXPECT_THAT(bars_in(to_text(table_of("x", times), blocks)).back(), HasSubstr("1 ▏"));
}

TEST(HistView, IsAsWideAsItIsTold) {
  for (const std::size_t width : {40U, 80U, 160U}) {
    std::size_t longest = 0;
    for (const std::string& bar : bars_in(to_text(table_of("x", {1000, 1000, 3000}), ascii(width)))) {
      longest = std::max(longest, bar.size());
    }
    EXPECT_EQ(longest, width);
  }
}

TEST(HistView, TellsErrorsAndQuantiles) {
  HistTable table = table_of("llm.chat", {1000, 1000});
  table.rows[{"llm.chat"}].add({2000, kError, ""});
  table.rows[{"llm.chat"}].add({4000, kCancelled, ""});
  const std::string text = to_text(table, ascii());
  EXPECT_THAT(text, HasSubstr("llm.chat  4, 1 error, 1 cancelled\n"));
  EXPECT_THAT(text, HasSubstr("p50 1.00 us"));
  EXPECT_THAT(text, HasSubstr("max 4.00 us  mean 2.00 us"));
}

TEST(HistView, LetsNoNameObeyTheTerminal) {
  const std::string text = to_text(table_of("\x1b[2Jevil\n\xff", {1}), ascii());
  EXPECT_THAT(text, HasSubstr("\\x1b[2Jevil\\x0a\\xff  1\n"));
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

TEST(HistView, SaysWhatIsNotShown) {
  HistTable table = table_of("first", {1, 2});
  table.rows[{"second"}].add({1, kOk, ""});
  table.other.add({1, kOk, ""});
  HistStyle style = ascii();
  style.most_rows = 1;
  const std::string text = to_text(table, style);
  EXPECT_THAT(text, HasSubstr("\n1 more rows; use --rows 0 to show all.\n"));
  EXPECT_THAT(text, Not(HasSubstr("second")));
  EXPECT_THAT(text, HasSubstr("other (over --rows-max)  1\n"));
  EXPECT_THAT(to_text(table, ascii()), HasSubstr("second"));
}

TEST(HistView, SaysThatThereIsNothing) {
  EXPECT_THAT(to_text(table_of("x", {}), ascii()), HasSubstr("No times were counted."));
}

TEST(HistView, IsColoredOnlyIfAllowed) {
  HistStyle style = ascii();
  style.color = true;
  EXPECT_THAT(to_text(table_of("x", {1}), style), HasSubstr("\x1b[1mx\x1b[0m"));
}

TEST(HistView, AccountsForEveryEntry) {
  HistTable table = table_of("x", {1, 2, 3});
  const auto server = std::make_shared<Process>(Process{.pid = 7, .comm = "server"});
  const auto agent = std::make_shared<Process>(Process{.pid = 8, .comm = "agent\x1b"});
  table.ledger.of(server) = {.emitted = 3, .delivered = 3};
  EXPECT_EQ(ledger_text(table), "3 entries from 1 process: 3 delivered, none lost\n");
  table.ledger.of(server) = {.emitted = 8, .delivered = 3, .filtered = 1, .unreadable = 4};
  table.ledger.of(agent) = {.emitted = 6, .filtered = 1, .missed = 5};
  table.other.add({1, kOk, ""});
  const std::string text = ledger_text(table);
  EXPECT_EQ(text, to_text(table.ledger.ledger()) +
                      "  1 times were counted in the row \"other\": use a larger --rows-max, or fewer keys in --by\n");
  EXPECT_THAT(text, HasSubstr("14 entries from 2 processes: 3 delivered, 2 filtered out, 9 lost\n"));
  EXPECT_THAT(text, HasSubstr("\n  lost by process: 8 agent\\x1b 5, 7 server 4\n"));
}

TEST(HistView, NamesAllKeys) {
  HistTable table = table_of("x", {});
  table.by = parse_grouping("name,model,tenant");
  table.rows[{"llm.chat", "", "acme"}].add({1, kOk, ""});
  const std::string text = to_text(table, ascii());
  EXPECT_THAT(text, HasSubstr("Duration of spans, by name, model and tenant"));
  EXPECT_THAT(text, HasSubstr("\nllm.chat  model=-  tenant=acme  1\n"));
}

}  // namespace
}  // namespace nopspan::collector
