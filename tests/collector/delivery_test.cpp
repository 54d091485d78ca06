// SPDX-License-Identifier: Apache-2.0
// Which entries are marked as before the attach.
#include "live/delivery.h"

#include "batch_builder.h"
#include "kept_entry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

// Whether a span from before an attach is marked if its message was held, and `missing` did not happen in time.
bool is_marked(unsigned missing) {
  const Filter filter;
  const ClockMap clocks([] { return std::uint64_t{5000}; }, [] { return std::uint64_t{5000}; });
  AttachTimes times;
  times.end(100, true);
  times.begin(2000);
  times.end(3000, true);
  Delivery delivery(filter, clocks, times, true);
  KeptEntries kept;
  delivery.set_sink(&kept);
  BatchBuilder batch;
  batch.span("ended at 1050", 1);
  nopspan_message message{};
  message.kind = NOPSPAN_MESSAGE_BATCH;
  message.pid = message.tgid = 7;
  message.sequence_id = 1;
  message.first = 10;
  message.next = 11;
  message.time_ns = 4000;
  delivery.release({7, missing, {{message, std::string(batch.bytes())}}});
  EXPECT_EQ(kept.spans.size(), 1U);
  return kept.spans.at(0).entry().before_attach;
}

TEST(Delivery, MarksEntriesOfAProcessWhoseStateAtTheAttachIsNotKnown) {
  EXPECT_TRUE(is_marked(HeldMessages::begun));
  EXPECT_FALSE(is_marked(0));
}

}  // namespace
}  // namespace nopspan::collector
