// SPDX-License-Identifier: Apache-2.0
// Entries of held messages: which are marked as before the attach, and what is known of their process.
#include "live/delivery.h"

#include "batch_builder.h"
#include "host/process_facts.h"
#include "kept_entry.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

struct Released {
  KeptEntry span;
  std::uint64_t missed;
};

// The span of a held message, which ended before an attach, if `missing` did not happen in time.
Released released_span(unsigned missing, bool has_ended = false, std::uint64_t first = 10,
                       std::uint64_t time_ns = 4000) {
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
  message.pid = message.tgid = has_ended ? 0x3fffffff : static_cast<unsigned>(getpid());
  message.sequence_id = 1;
  message.first = first;
  message.next = first + 1;
  message.time_ns = time_ns;
  delivery.release({message.pid, missing, {{message, std::string(batch.bytes())}}});
  EXPECT_EQ(kept.spans.size(), 1U);
  return {kept.spans.at(0), delivery.account(message.pid).counts().missed};
}

TEST(Delivery, MarksEntriesOfAProcessWhoseStateAtTheAttachIsNotKnown) {
  EXPECT_TRUE(released_span(HeldMessages::begun).span.entry().before_attach);
  EXPECT_FALSE(released_span(0).span.entry().before_attach);
}

TEST(Delivery, DoesNotKnowWhatAProcessThatEndedDuringAnAttachHadEmittedBefore) {
  EXPECT_EQ(released_span(0).missed, 10U);
  const Released ended = released_span(0, true);
  EXPECT_EQ(ended.missed, 0U);
  EXPECT_TRUE(ended.span.entry().before_attach);
}

TEST(Delivery, KnowsThatAProcessThatEndedSoonAfterItsBeginEmittedNothingBefore) {
  const Released ended = released_span(0, true, 0);
  EXPECT_EQ(ended.missed, 0U);
  EXPECT_FALSE(ended.span.entry().before_attach);
  EXPECT_TRUE(released_span(0, true, 0, 2500).span.entry().before_attach) << "in the middle of an attach";
}

// What is missing of a thread whose end shows a gap at time 4000.
std::uint64_t missing_at_the_end(std::uint64_t detaching_since_ns) {
  const Filter filter;
  const ClockMap clocks([] { return std::uint64_t{5000}; }, [] { return std::uint64_t{5000}; });
  AttachTimes times;
  times.end(100, true);
  Delivery delivery(filter, clocks, times, true);
  KeptEntries kept;
  delivery.set_sink(&kept);
  nopspan_message message{};
  message.pid = message.tgid = 7;
  message.sequence_id = 1;
  const auto take = [&](std::uint8_t kind, std::uint64_t first, std::uint64_t time_ns) {
    BatchBuilder batch;
    batch.span("one", 1);
    message.kind = kind;
    message.first = first;
    message.next = first + 1;
    message.time_ns = time_ns;
    delivery.on_message(message, batch.bytes());
  };
  take(NOPSPAN_MESSAGE_BATCH, 0, 1000);
  delivery.set_detaching(detaching_since_ns);
  take(NOPSPAN_MESSAGE_ENDED, 5, 4000);
  return delivery.account(7).counts().missed;
}

TEST(Delivery, CountsNothingAsMissedThatWasEmittedAfterTheDetachBegan) {
  EXPECT_EQ(missing_at_the_end(4001), 4U);
  EXPECT_EQ(missing_at_the_end(4000), 0U);
  EXPECT_EQ(missing_at_the_end(0), 0U);
}

TEST(Delivery, KnowsTheHostOfAProcessThatWasNotExaminedInTime) {
  const KeptEntry span = released_span(HeldMessages::described).span;
  const Process& process = **span.entry().process;
  EXPECT_EQ(process.pid, static_cast<unsigned>(getpid()));
  EXPECT_EQ(process.namespace_pid, process.pid);
  EXPECT_EQ(process.host, host_name());
  EXPECT_EQ(process.boot_id, boot_id());
  EXPECT_FALSE(process.boot_id.empty());
}

}  // namespace
}  // namespace nopspan::collector
