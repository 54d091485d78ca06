// SPDX-License-Identifier: Apache-2.0
// Quantities, and the table of histograms: grouping, JSON, and text with bars.
#include "hist/hist_table.h"

#include "facts/engine_facts.h"
#include "model/otlp_wire.h"

#include "invented_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;
using testing::Not;

HistTable table_by(const std::string& by) {
  HistTable table;
  table.by = parse_grouping(by);
  table.of = find_quantity("duration");
  return table;
}

HistTable some_table() {
  HistTable table = table_by("name,model");
  table.rows[{"llm.chat", "tiny"}].add({5000, kOk, ""});
  table.rows[{"llm.chat", "tiny"}].add({7000, kError, ""});
  table.rows[{"llm.tool", ""}].add({300, kCancelled, ""});
  table.other.add({20, kException, ""});
  table.ledger.of(invented_process(7, 100)) = {.emitted = 5, .delivered = 3, .filtered = 2};
  table.ledger.of(invented_process(8, 200)) = {.emitted = 4, .delivered = 1, .filtered = 2, .missed = 1};
  return table;
}

TEST(HistTable, HasItsRowsInItsJsonWithTheGreatestCountFirst) {
  HistTable table = some_table();
  table.rows[{"llm.chat", "tiny"}].add({63, kOk, ""});
  table.rows[{"a", ""}].add({1, kOk, ""});
  const Json json = to_json(table);
  ASSERT_EQ(json["rows"].size(), 3U);
  const Json& row = json["rows"][0];
  EXPECT_EQ(row["name"], "llm.chat");
  EXPECT_EQ(row["model"], "tiny");
  EXPECT_EQ(row["errors"], 1);
  EXPECT_EQ(row["histogram"], Json::parse(R"({"unit": "ns", "sub_bits": 5, "buckets": [[63, 1], [4992, 1], [6912, 1]],
                                              "count": 3, "sum": 12063, "min": 63, "max": 7000})"));
  EXPECT_EQ(json["rows"][2]["cancelled"], 1);
  EXPECT_EQ(json["other"]["errors"], 1);
  EXPECT_TRUE(json["ledger"]["total"]["balanced"]);
  EXPECT_EQ(json["ledger"]["total"]["delivered"], 4);
  EXPECT_EQ(json["ledger"]["processes"].size(), 2U);
}

TEST(HistTable, WritesNamesThatAreNoUtf8) {
  HistTable table = table_by("name");
  table.rows[{"\xff\x1b[2J"}].add({1, kOk, ""});
  const std::string text = to_json(table).dump(-1, ' ', false, Json::error_handler_t::replace);
  EXPECT_EQ(Json::parse(text)["rows"].size(), 1U);
}

// The recorded values of each quantity.
struct Case {
  const char* of;
  std::uint64_t value;
  const char* name;
  std::uint8_t status;
};

class QuantityOfASpan : public testing::TestWithParam<Case> {
 protected:
  static Entry whole_span() {
    Entry entry;
    entry.name = "llm.tool";
    entry.text = "calculator";
    entry.status = kError;
    entry.duration_ns = 1;
    entry.has_first_token = entry.has_engine_times = entry.counts_tool = true;
    entry.first_token_ns = 2;
    entry.engine_times.queue_ns = 3;
    entry.engine_times.prefill_ns = 4;
    entry.engine_times.decode_ns = 5;
    return entry;
  }
};

TEST_P(QuantityOfASpan, IsReadFromIt) {
  const Case& expected = GetParam();
  Measured measured;
  ASSERT_TRUE(measure(whole_span(), *find_quantity(expected.of), measured));
  EXPECT_EQ(measured.value, expected.value);
  EXPECT_EQ(measured.name, expected.name);
  EXPECT_EQ(measured.status, expected.status);
}

TEST_P(QuantityOfASpan, IsNotReadFromAnythingElse) {
  Measured measured;
  Entry entry = whole_span();
  for (const Kind kind : {Kind::event, Kind::gauge, Kind::retry}) {
    entry.kind = kind;
    EXPECT_FALSE(measure(entry, *find_quantity(GetParam().of), measured));
  }
  entry = Entry{};
  EXPECT_EQ(measure(entry, *find_quantity(GetParam().of), measured), std::string(GetParam().of) == "duration");
}

INSTANTIATE_TEST_SUITE_P(HistQuantity, QuantityOfASpan,
                         testing::Values(Case{"duration", 1, "llm.tool", kError}, Case{"ttft", 2, "llm.tool", kOk},
                                         Case{"tool", 1, "calculator", kError}, Case{"engine", 1, "llm.tool", kError},
                                         Case{"queue", 3, "llm.tool", kError}, Case{"prefill", 4, "llm.tool", kError},
                                         Case{"decode", 5, "llm.tool", kError}));

TEST(HistQuantity, OfARetryIsItsDelayUnderItsSpansName) {
  Entry retry;
  retry.kind = Kind::retry;
  retry.value = 500;
  retry.text = "llm.step";
  retry.name = "gen_ai.retry";
  Measured measured;
  ASSERT_TRUE(measure(retry, *find_quantity("retry"), measured));
  EXPECT_EQ(measured.value, 500U);
  EXPECT_EQ(measured.name, "llm.step");
}

// The value that `of` has in a span or event with these attributes. -1 if it has none.
std::int64_t value_in(const char* of, const std::string& attributes, Kind kind = Kind::span) {
  Entry entry;
  entry.kind = kind;
  entry.name = "engine.request";
  entry.attributes = attributes;
  entry.has_usage = entry.has_engine_times = true;
  entry.usage = {200, 11, 50, 0};
  entry.engine_times.decode_ns = 1000;
  Measured measured;
  return measure(entry, *find_quantity(of), measured) ? static_cast<std::int64_t>(measured.value) : -1;
}

TEST(HistQuantity, OfAnAttributeIsTheNumberThatItHas) {
  std::string span, event;
  append_integer_attribute(span, kSpanAttributes, "nopspan.drafted_tokens", 18);
  append_integer_attribute(span, kSpanAttributes, "nopspan.accepted_tokens", 9);
  append_integer_attribute(span, kSpanAttributes, "rows", -1);
  append_text_attribute(span, kSpanAttributes, "nopspan.blocks", "7");
  append_integer_attribute(event, kEventAttributes, "nopspan.lifetime_ns", 70);
  EXPECT_EQ(value_in("drafted_tokens", span), 18);
  EXPECT_EQ(value_in("attr:nopspan.drafted_tokens", span), 18);
  EXPECT_EQ(value_in("lifetime_ns", event, Kind::event), 70);
  EXPECT_EQ(value_in("lifetime_ns", event, Kind::gauge), -1);
  EXPECT_EQ(value_in("attr:rows", span), -1) << "it is negative";
  EXPECT_EQ(value_in("blocks", span), -1) << "it is a text";
  EXPECT_EQ(value_in("acceptance", span), 50);
  EXPECT_EQ(value_in("acceptance", ""), -1);
  EXPECT_EQ(value_in("drafted_tokens", "\x4a\xff broken"), -1);
}

TEST(HistQuantity, OfTokensIsComputedFromTheSpan) {
  EXPECT_EQ(value_in("tpot", ""), 100);
  EXPECT_EQ(value_in("input-tokens", ""), 200);
  EXPECT_EQ(value_in("output-tokens", ""), 11);
  EXPECT_EQ(value_in("cache-hits", ""), 25);
}

TEST(HistQuantity, OfTimePerTokenNeedsTheDecodeTime) {
  Entry entry;
  entry.has_usage = entry.has_engine_times = true;
  entry.usage.output = 11;
  entry.engine_times.queue_ns = 1000;
  Measured measured;
  EXPECT_FALSE(measure(entry, *find_quantity("tpot"), measured));
}

TEST(HistQuantity, OfATimeOfAnEngineIsNotZeroIfItIsUnknown) {
  std::string span;
  append_integer_attribute(span, kSpanAttributes, "nopspan.prefill_ns", 0);
  EXPECT_EQ(value_in("prefill", span), 0);
  EXPECT_EQ(value_in("queue", span), -1);
}

TEST(HistQuantity, HasAUnitAndIsKnownByItsName) {
  EXPECT_EQ(find_quantity("luck"), nullptr);
  EXPECT_EQ(find_quantity("attr:"), nullptr);
  EXPECT_EQ(find_quantity("attr:a\nb"), nullptr);
  EXPECT_EQ(find_quantity("attr:nopspan.blocks"), find_quantity("blocks"));
  EXPECT_STREQ(find_quantity("blocks")->unit, "blocks");
  EXPECT_STREQ(find_quantity("max_tokens")->unit, "tokens");
  EXPECT_STREQ(find_quantity("attr:gen_ai.latency.e2e")->unit, "ns");
  EXPECT_STREQ(find_quantity("preemptions")->unit, "1");
  for (const EngineFact& fact : kEngineFacts) EXPECT_NE(find_quantity(fact.name), nullptr) << fact.name;
}

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
