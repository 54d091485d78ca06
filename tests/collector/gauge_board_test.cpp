// SPDX-License-Identifier: Apache-2.0
// The last value and the maximum of each gauge.
#include "top/gauge_board.h"

#include "invented_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace nopspan::collector {
namespace {

using testing::SizeIs;

Entry gauge(std::string_view engine, std::string_view name, std::int64_t value, std::uint64_t maximum = 0) {
  Entry entry = invented(name, "m");
  entry.kind = Kind::gauge;
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

}  // namespace
}  // namespace nopspan::collector
