// SPDX-License-Identifier: Apache-2.0
// Entries of held messages: which are marked as before the attach, and what is known of their process.
#include "live/delivery.h"

#include "batch_builder.h"
#include "host/process_facts.h"
#include "kept_entry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

// The span of a held message, which ended before an attach, if `missing` did not happen in time.
KeptEntry released_span(unsigned missing) {
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
  return kept.spans.at(0);
}

TEST(Delivery, MarksEntriesOfAProcessWhoseStateAtTheAttachIsNotKnown) {
  EXPECT_TRUE(released_span(HeldMessages::begun).entry().before_attach);
  EXPECT_FALSE(released_span(0).entry().before_attach);
}

TEST(Delivery, KnowsTheHostOfAProcessThatWasNotExaminedInTime) {
  const KeptEntry span = released_span(HeldMessages::described);
  const Process& process = **span.entry().process;
  EXPECT_EQ(process.pid, 7U);
  EXPECT_EQ(process.namespace_pid, 7U);
  EXPECT_EQ(process.host, host_name());
  EXPECT_EQ(process.boot_id, boot_id());
  EXPECT_FALSE(process.boot_id.empty());
}

}  // namespace
}  // namespace nopspan::collector
