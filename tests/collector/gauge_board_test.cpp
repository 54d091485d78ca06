// SPDX-License-Identifier: Apache-2.0
// The last value and the maximum of each gauge, and the sums of the numbers of an engine's spans and events.
#include "top/gauge_board.h"

#include "invented_spans.h"
#include "kept_entry.h"
#include "model/otlp_wire.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::SizeIs;

Entry gauge(std::string_view engine, std::string_view name, std::int64_t value, std::uint64_t maximum = 0) {
  Entry entry = invented(name, "m", Kind::gauge);
  entry.engine = engine;
  entry.value = value;
  entry.number = maximum;
  return entry;
}

TEST(GaugeBoard, HasTheLastValueOfEach) {
  GaugeBoard board;
  board.add(gauge("e", "running", 3), 10);
  board.add(gauge("e", "kv_cache_used", 7, 8), 11);
  board.add(gauge("e", "running", -4), 12);
  const auto readings = board.readings();
  ASSERT_THAT(readings, SizeIs(2));
  EXPECT_EQ(readings[0].name, "kv_cache_used");
  EXPECT_EQ(readings[0].maximum, 8U);
  EXPECT_EQ(readings[1].name, "running");
  EXPECT_EQ(readings[1].value, -4);
  EXPECT_EQ(readings[1].reported_unix_ns, 12U);
}

TEST(GaugeBoard, TellsEnginesModelsAndProcessesApart) {
  GaugeBoard board;
  const ProcessPointer another = invented_process(200);
  Entry entry = gauge("e", "running", 1);
  board.add(entry, 1);
  entry.process = &another;
  board.add(entry, 1);
  entry.engine = "f";
  board.add(entry, 1);
  entry.model = "n";
  board.add(entry, 1);
  EXPECT_THAT(board.readings(), SizeIs(4));
}

TEST(GaugeBoard, HasAReadingOfAProcessThatReportsFewerThanAnother) {
  GaugeBoard board;
  const ProcessPointer steady = invented_process(200);
  for (int i = 0; i < 1000; ++i) board.add(gauge("e", "gauge " + std::to_string(i), i), 1);
  const std::uint64_t dropped = board.dropped();
  Entry entry = gauge("e", "steady", 5);
  entry.process = &steady;
  board.add(entry, 1);
  EXPECT_THAT(board.readings(), SizeIs(GaugeBoard::kMost));
  EXPECT_EQ(board.readings().back().name, "steady");
  EXPECT_EQ(board.dropped(), dropped + 1);
}

TEST(GaugeBoard, IsBoundedAndCountsWhatItLeavesOut) {
  GaugeBoard board;
  for (int i = 0; i < 1000; ++i) board.add(gauge("e", "gauge " + std::to_string(i), i), 1);
  EXPECT_THAT(board.readings(), SizeIs(GaugeBoard::kMost));
  EXPECT_EQ(board.dropped(), 1000 - GaugeBoard::kMost);
  const std::string endless(5000, 'x');
  GaugeBoard other;
  other.add(gauge(endless, endless, 1), 1);
  EXPECT_THAT(other.readings()[0].name, SizeIs(256));
}

TEST(GaugeBoard, GivesThePlaceOfOneThatIsNotToldAnyMoreToANewOne) {
  GaugeBoard board;
  for (std::size_t i = 0; i < GaugeBoard::kMost; ++i) board.add(gauge("e", "gauge " + std::to_string(i), 1), i + 1);
  board.add(gauge("e", "new", 1), 60'000'000'001);
  const auto readings = board.readings();
  EXPECT_THAT(readings, SizeIs(GaugeBoard::kMost));
  EXPECT_EQ(board.dropped(), 0U);
  for (const GaugeReading& reading : readings) EXPECT_NE(reading.name, "gauge 0");
}

TEST(GaugeBoard, TellsLabelsApartAndSortsThem) {
  GaugeBoard board;
  std::string capacity, adapter;
  append_text_attribute(capacity, kEventAttributes, "reason", "capacity");
  append_integer_attribute(capacity, kEventAttributes, "gpu", 1);
  append_text_attribute(adapter, kEventAttributes, "reason", "adapter");
  Entry entry = gauge("e", "waiting", 1);
  board.add(entry, 1);
  entry.attributes = capacity;
  board.add(entry, 1);
  entry.attributes = adapter;
  board.add(entry, 1);
  entry.value = 2;
  board.add(entry, 1);
  const auto readings = board.readings();
  ASSERT_THAT(readings, SizeIs(3));
  EXPECT_THAT(readings[0].labels, SizeIs(0));
  EXPECT_EQ(readings[1].labels, (std::vector<GaugeReading::Label>{{"gpu", "1"}, {"reason", "capacity"}}));
  EXPECT_EQ(readings[2].labels, (std::vector<GaugeReading::Label>{{"reason", "adapter"}}));
  EXPECT_EQ(readings[2].value, 2);
}

// Returns what the board then has of the only counter.
GaugeReading add_counter(GaugeBoard& board, std::int64_t value, std::uint64_t second) {
  Entry entry = gauge("e", "aborted", value);
  entry.flags = NOPSPAN_FLAG_COUNTER;
  entry.start_unix_ns = second * kSecond;
  board.add(entry, 100 * kSecond);  // a recording is read within a moment
  return board.readings()[0];
}

TEST(GaugeBoard, HasTheIncreaseOfCountersAlsoAcrossARestart) {
  GaugeBoard board;
  EXPECT_EQ(add_counter(board, 1000, 1).increase, 0U);
  EXPECT_EQ(add_counter(board, 1000, 1).per_second(), 0);
  EXPECT_EQ(add_counter(board, 1020, 3).increase, 20U);
  EXPECT_DOUBLE_EQ(add_counter(board, 1040, 5).per_second(), 10);
  const GaugeReading restarted = add_counter(board, 6, 6);
  EXPECT_EQ(restarted.increase, 46U);
  EXPECT_EQ(restarted.restarts, 1U);
  EXPECT_EQ(restarted.value, 6);
  EXPECT_TRUE(restarted.is_counter);
  for (std::uint64_t second = 7; second < 60; ++second) add_counter(board, static_cast<std::int64_t>(second), second);
  EXPECT_DOUBLE_EQ(add_counter(board, 60, 60).per_second(), 1);  // what was long ago does not count
}

TEST(GaugeBoard, IgnoresAValueThatArrivesLate) {
  GaugeBoard board;
  add_counter(board, 1000, 50);
  add_counter(board, 1020, 52);
  const GaugeReading late = add_counter(board, 1010, 51);
  EXPECT_EQ(late.value, 1020);
  EXPECT_EQ(late.restarts, 0U);
  EXPECT_EQ(late.increase, 20U);
  EXPECT_EQ(add_counter(board, 1030, 20).value, 1030) << "the clock was set back";
}

TEST(GaugeBoard, DoesNotBelieveACounter) {
  GaugeBoard board;
  add_counter(board, 0, 2000);
  for (int i = 0; i < 8; ++i) {
    EXPECT_GE(add_counter(board, INT64_MAX, 1980).per_second(), 0);
    EXPECT_GE(add_counter(board, 0, 1960).per_second(), 0);
  }
  EXPECT_FALSE(add_counter(board, INT64_MIN, 1940).is_counter);
}

Entry evicted(const std::string& attributes) {
  Entry entry = invented("engine.evicted", "m", Kind::event);
  entry.attributes = attributes;
  return entry;
}

TEST(FactSums, AddUpTheNumbersOfEventsAndSpans) {
  std::string event, span;
  append_integer_attribute(event, kEventAttributes, "nopspan.blocks", 3);
  append_integer_attribute(event, kEventAttributes, "negative", -3);
  append_text_attribute(event, kEventAttributes, "nopspan.tier", "host");
  append_integer_attribute(span, kSpanAttributes, "nopspan.blocks", 5);
  append_integer_attribute(span, kSpanAttributes, "nopspan.arrival_ns", 5);
  FactSums sums;
  sums.add(evicted(event));
  sums.add(evicted(event));
  Entry transfer = invented("engine.transfer", "m");
  transfer.attributes = span;
  sums.add(transfer);
  sums.add(invented("work", "m"));
  Entry reading = evicted(event);
  reading.kind = Kind::gauge;
  sums.add(reading);
  ASSERT_EQ(sums.rows().size(), 2U);
  const FactSums::Row& events = sums.rows().at({"engine.evicted", "", "m"});
  EXPECT_EQ(events.count, 2U);
  EXPECT_EQ(events.sums, (decltype(FactSums::Row::sums){{"nopspan.blocks", 6}}));
  EXPECT_EQ(events.texts, (decltype(FactSums::Row::texts){{{"nopspan.tier", "host"}, 2}}));
  EXPECT_EQ(sums.rows().at({"engine.transfer", "", "m"}).sums, (decltype(FactSums::Row::sums){{"nopspan.blocks", 5}}));
  EXPECT_EQ(sums.dropped(), 0U);
}

TEST(FactSums, AreBoundedAndSaturate) {
  FactSums sums;
  std::string greatest;
  append_integer_attribute(greatest, kEventAttributes, "n", INT64_MAX);
  for (int i = 0; i < 3; ++i) sums.add(evicted(greatest));
  const FactSums::Row& row = sums.rows().begin()->second;
  EXPECT_EQ(row.sums.at("n"), UINT64_MAX);
  for (std::size_t i = 0; i < 2 * FactSums::kMost; ++i) {
    std::string attributes;
    append_integer_attribute(attributes, kEventAttributes, std::string(5000, 'x') + std::to_string(i), 1);
    append_integer_attribute(attributes, kEventAttributes, std::to_string(i), 1);
    sums.add(evicted(attributes));
  }
  sums.add(evicted(text_attribute("nopspan.tier", "host", true)));
  EXPECT_TRUE(row.texts.empty());
  // A row and the sums of "n" and of the text that is cut.
  EXPECT_EQ(row.sums.size(), FactSums::kMost - 1);
  EXPECT_EQ(sums.dropped(), 2 * FactSums::kMost - (FactSums::kMost - 3) + 1);
}

}  // namespace
}  // namespace nopspan::collector
