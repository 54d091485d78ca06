// SPDX-License-Identifier: Apache-2.0
// The sums of the numbers of an engine's spans and events.
#include "top/gauge_board.h"

#include "invented_spans.h"
#include "kept_entry.h"
#include "model/otlp_wire.h"

#include <gtest/gtest.h>

#include <string>

namespace nopspan::collector {
namespace {

Entry evicted(const std::string& attributes) {
  Entry entry = invented("engine.evicted", "m");
  entry.kind = Kind::event;
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
  EXPECT_EQ(sums.rows()[0].name, "engine.evicted");
  EXPECT_EQ(sums.rows()[0].count, 2U);
  EXPECT_EQ(sums.rows()[0].sums, (decltype(FactSums::Row::sums){{"nopspan.blocks", 6}}));
  EXPECT_EQ(sums.rows()[0].texts, (decltype(FactSums::Row::texts){{{"nopspan.tier", "host"}, 2}}));
  EXPECT_EQ(sums.rows()[1].sums, (decltype(FactSums::Row::sums){{"nopspan.blocks", 5}}));
  EXPECT_EQ(sums.dropped(), 0U);
}

TEST(FactSums, AreBoundedAndSaturate) {
  FactSums sums;
  std::string greatest;
  append_integer_attribute(greatest, kEventAttributes, "n", INT64_MAX);
  for (int i = 0; i < 3; ++i) sums.add(evicted(greatest));
  EXPECT_EQ(sums.rows()[0].sums.at("n"), UINT64_MAX);
  for (std::size_t i = 0; i < 2 * FactSums::kMost; ++i) {
    std::string attributes;
    append_integer_attribute(attributes, kEventAttributes, std::string(5000, 'x') + std::to_string(i), 1);
    append_integer_attribute(attributes, kEventAttributes, std::to_string(i), 1);
    sums.add(evicted(attributes));
  }
  sums.add(evicted(text_attribute("nopspan.tier", "host", true)));
  EXPECT_TRUE(sums.rows()[0].texts.empty());
  // A row and the sums of "n" and of the text that is cut.
  EXPECT_EQ(sums.rows()[0].sums.size(), FactSums::kMost - 1);
  EXPECT_EQ(sums.dropped(), 2 * FactSums::kMost - (FactSums::kMost - 3) + 1);
}

}  // namespace
}  // namespace nopspan::collector
