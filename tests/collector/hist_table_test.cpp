// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_table.h"

#include "base/failure.h"
#include "hist_events.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

HistTable table_by(const std::vector<std::string>& by, const char* of = "duration") {
  HistTable table;
  for (const std::string& name : by) table.by.push_back(find_key_part(name));
  table.of = find_quantity(of);
  table.hosts = {"host1"};
  table.began_unix_ns = 1000;
  table.ended_unix_ns = 2000;
  return table;
}

HistTable some_table() {
  HistTable table = table_by({"name", "model"});
  table.add({"llm.chat", "tiny"}, {5000, kOk, ""}, 2);
  table.add({"llm.chat", "tiny"}, {7000, kError, ""}, 2);
  table.add({"llm.tool", ""}, {300, kCancelled, ""}, 2);
  table.add({"llm.step", ""}, {20, kException, ""}, 2);  // finds no row
  table.counts.filtered = 4;
  table.counts.emitted = 8;
  return table;
}

TEST(HistTable, CountsErrorsAndCancelledSpans) {
  const HistTable table = some_table();
  const HistRow& chat = table.rows.at({"llm.chat", "tiny"});
  EXPECT_EQ(chat.times.count(), 2U);
  EXPECT_EQ(chat.errors, 1U);
  EXPECT_EQ(table.rows.at({"llm.tool", ""}).cancelled, 1U);
}

TEST(HistTable, PutsWhatFindsNoRowIntoOther) {
  const HistTable table = some_table();
  EXPECT_EQ(table.rows.size(), 2U);
  EXPECT_EQ(table.other.times.count(), 1U);
  EXPECT_EQ(table.other.errors, 1U);
  EXPECT_EQ(table.counts.delivered, 4U);
}

TEST(HistTable, ListsTheGreatestCountFirst) {
  const HistTable table = some_table();
  const auto rows = table.sorted();
  ASSERT_EQ(rows.size(), 2U);
  EXPECT_EQ(rows[0]->first[0], "llm.chat");
}

TEST(HistTable, SurvivesJson) {
  const Json json = to_json(some_table());
  EXPECT_EQ(to_json(hist_table_from_json(Json::parse(json.dump()))), json);
  EXPECT_TRUE(json["ledger"]["closes"]);
}

TEST(HistTable, IsMergedRowByRow) {
  HistTable all = some_table();
  HistTable more = table_by({"name", "model"});
  more.hosts = {"host2"};
  more.began_unix_ns = 500;
  more.ended_unix_ns = 1500;
  more.add({"llm.chat", "tiny"}, {9000, kOk, ""}, 9);
  more.add({"llm.chat", "other"}, {1, kOk, ""}, 9);
  all.merge(more);
  EXPECT_EQ(all.rows.size(), 3U);
  EXPECT_EQ(all.rows.at({"llm.chat", "tiny"}).times.count(), 3U);
  EXPECT_EQ(all.rows.at({"llm.chat", "tiny"}).times.maximum(), 9000U);
  EXPECT_EQ(all.counts.delivered, 6U);
  EXPECT_EQ(all.hosts, (std::vector<std::string>{"host1", "host2"}));
  EXPECT_EQ(all.began_unix_ns, 500U);
  EXPECT_EQ(all.ended_unix_ns, 2000U);
}

TEST(HistTable, IsNotMergedWithOneOfOtherKeysOrTimes) {
  HistTable table = some_table();
  EXPECT_THROW(table.merge(table_by({"name"})), Failure);
  EXPECT_THROW(table.merge(table_by({"model", "name"})), Failure);
  EXPECT_THROW(table.merge(table_by({"name", "model"}, "queue")), Failure);
}

TEST(HistTable, WritesNamesThatAreNoUtf8) {
  HistTable table = table_by({"name"});
  table.add({"\xff\x1b[2J"}, {1, kOk, ""}, 9);
  const std::string text = to_json(table).dump(-1, ' ', false, Json::error_handler_t::replace);
  EXPECT_EQ(hist_table_from_json(Json::parse(text)).rows.size(), 1U);
}

TEST(HistTable, RefusesJsonThatItDidNotWrite) {
  const Json good = to_json(some_table());
  for (const auto& [key, value] : good.items()) {
    Json bad = good;
    bad.erase(key);
    EXPECT_THROW(hist_table_from_json(bad), Failure) << "without " << key;
    for (const Json& wrong : {Json(nullptr), Json(-1), Json("x"), Json::array({1}), Json::object()}) {
      bad[key] = wrong;
      EXPECT_THROW(hist_table_from_json(bad), Failure) << key << ": " << wrong;
    }
  }
  for (const char* key : {"name", "model", "errors", "cancelled", "histogram"}) {
    Json bad = good;
    bad["rows"][0].erase(key);
    EXPECT_THROW(hist_table_from_json(bad), Failure) << "a row without " << key;
  }
  Json bad = good;
  bad["rows"][0]["errors"] = 3;
  EXPECT_THROW(hist_table_from_json(bad), Failure) << "more errors than spans";
  bad = good;
  bad["by"] = {"name", "name"};
  EXPECT_THROW(hist_table_from_json(bad), Failure) << "a key twice";
  bad["by"] = Json::array();
  EXPECT_THROW(hist_table_from_json(bad), Failure) << "no key";
}

// What a recording has of each quantity.
struct Case {
  const char* of;
  std::uint64_t value;
  const char* name;
  std::uint8_t status;
};

class QuantityOfASpan : public testing::TestWithParam<Case> {
 protected:
  static Span whole_span() {
    Span span;
    span.name = "llm.tool";
    span.text = "calculator";
    span.status = kError;
    span.duration_ns = 1;
    span.has_first_token = span.has_engine_times = span.tells_tool = true;
    span.first_token_ns = 2;
    span.engine_times.queue_ns = 3;
    span.engine_times.prefill_ns = 4;
    span.engine_times.decode_ns = 5;
    return span;
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
  Span span = whole_span();
  for (const Kind kind : {Kind::event, Kind::gauge, Kind::retry}) {
    span.kind = kind;
    EXPECT_FALSE(measure(span, *find_quantity(GetParam().of), measured));
  }
  span = Span{};
  EXPECT_EQ(measure(span, *find_quantity(GetParam().of), measured), std::string(GetParam().of) == "duration");
}

INSTANTIATE_TEST_SUITE_P(HistQuantity, QuantityOfASpan,
                         testing::Values(Case{"duration", 1, "llm.tool", kError},
                                         Case{"first-token", 2, "llm.tool", kOk}, Case{"tool", 1, "calculator", kError},
                                         Case{"engine", 1, "llm.tool", kError}, Case{"queue", 3, "llm.tool", kError},
                                         Case{"prefill", 4, "llm.tool", kError},
                                         Case{"decode", 5, "llm.tool", kError}));

TEST(HistQuantity, OfARetryIsItsDelayUnderItsSpansName) {
  Span retry;
  retry.kind = Kind::retry;
  retry.value = 500;
  retry.text = "llm.step";
  retry.name = "gen_ai.retry";
  Measured measured;
  ASSERT_TRUE(measure(retry, *find_quantity("retry"), measured));
  EXPECT_EQ(measured.value, 500U);
  EXPECT_EQ(measured.name, "llm.step");
}

TEST(HistQuantity, FindsTheTextsOfAKey) {
  Span span;
  span.model = "tiny";
  span.tenant = "acme";
  span.engine = "llama.cpp";
  const Measured measured{0, kOk, "named"};
  const std::vector<std::pair<const char*, const char*>> expected = {
      {"name", "named"}, {"model", "tiny"}, {"tenant", "acme"}, {"engine", "llama.cpp"}};
  for (const auto& [part, text] : expected) EXPECT_EQ(text_of(span, measured, *find_key_part(part)), text);
  EXPECT_EQ(find_key_part("color"), nullptr);
  EXPECT_EQ(find_quantity("luck"), nullptr);
}

}  // namespace
}  // namespace nopspan::collector
