// SPDX-License-Identifier: Apache-2.0
// The table of histograms: grouping, JSON, and its limits.
#include "hist/hist_table.h"

#include "facts/engine_facts.h"
#include "model/otlp_wire.h"

#include "invented_spans.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <memory>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

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

TEST(HistTable, CountsErrorsAndCancelledSpans) {
  const HistTable table = some_table();
  const HistRow& chat = table.rows.at({"llm.chat", "tiny"});
  EXPECT_EQ(chat.times.count(), 2U);
  EXPECT_EQ(chat.errors, 1U);
  EXPECT_EQ(table.rows.at({"llm.tool", ""}).cancelled, 1U);
  EXPECT_EQ(table.other.errors, 1U);
}

TEST(HistTable, ListsTheGreatestCountFirst) {
  const HistTable table = some_table();
  const auto rows = table.sorted();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]->first[0], "llm.chat");
}

TEST(HistTable, HasTheLedgerInItsJson) {
  const Json json = to_json(some_table());
  EXPECT_TRUE(json["ledger"]["total"]["balanced"]);
  EXPECT_EQ(json["ledger"]["total"]["delivered"], 4);
  EXPECT_EQ(json["ledger"]["processes"].size(), 2U);
}

TEST(HistTable, HasEachHistogramInItsJson) {
  HistTable table = some_table();
  table.rows[{"llm.chat", "tiny"}].add({63, kOk, ""});
  const Json row = to_json(table)["rows"][0];
  EXPECT_EQ(row["name"], "llm.chat");
  EXPECT_EQ(row["model"], "tiny");
  EXPECT_EQ(row["errors"], 1);
  EXPECT_EQ(row["histogram"], Json::parse(R"({"unit": "ns", "sub_bits": 5, "buckets": [[63, 1], [4992, 1], [6912, 1]],
                                              "count": 3, "sum": 12063, "min": 63, "max": 7000})"));
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

}  // namespace
}  // namespace nopspan::collector
