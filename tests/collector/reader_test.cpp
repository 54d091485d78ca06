// SPDX-License-Identifier: Apache-2.0
// Entries of held messages: which are marked as before the attach, and what is known of their process.
#include "reader/reader.h"

#include "batch_builder.h"
#include "host/process_facts.h"
#include "kept_entry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>

namespace nopspan::collector {
namespace {

struct Released {
  KeptEntry span;
  std::uint64_t missed;
};

constexpr ClockSample kClock{5000, 0, 0};
const Filter kNoFilter;

void start(Reader& reader, KeptEntries& kept) {
  reader.set_sink(&kept, [] {});
  reader.on_start({unknown_process(0), kClock, true});
}

Described described(std::uint32_t pid, bool has_ended) {
  Process process = unknown_process(pid);
  process.start_ticks = has_ended ? 0 : 1;
  return {pid, std::make_shared<const Process>(process), false};
}

// The span of a held message, which ended before an attach, if `missing` did not happen in time.
Released released_span(unsigned missing, bool has_ended = false, std::uint64_t first = 10,
                       std::uint64_t time_ns = 4000) {
  Reader reader(kNoFilter);
  KeptEntries kept;
  start(reader, kept);
  reader.on_mark(Mark::live, kClock.monotonic_ns);
  reader.on_attach({100, false, true});
  reader.on_attach({2000, true, false});
  reader.on_attach({3000, false, true});
  BatchBuilder batch;
  batch.span("ended at 1050", 1);
  nopspan_message message{};
  message.kind = NOPSPAN_MESSAGE_BATCH;
  message.pid = message.tgid = 7;
  message.sequence_id = 1;
  message.first = first;
  message.next = first + 1;
  message.time_ns = time_ns;
  reader.on_batch(message, batch.bytes());
  EXPECT_TRUE(kept.spans.empty());
  if ((missing & HeldMessages::described) == 0) reader.on_process(described(message.pid, has_ended));
  if ((missing & HeldMessages::begun) == 0) reader.on_mark(Mark::settled, kClock.monotonic_ns);
  if (missing != 0) reader.on_mark(Mark::time, time_ns + HeldMessages::kLongest);
  EXPECT_EQ(kept.spans.size(), 1U);
  return {kept.spans.at(0), reader.account(message.pid).counts().missed};
}

TEST(Reader, MarksEntriesOfAProcessWhoseStateAtTheAttachIsNotKnown) {
  EXPECT_TRUE(released_span(HeldMessages::begun).span.entry().before_attach);
  EXPECT_FALSE(released_span(0).span.entry().before_attach);
}

TEST(Reader, DoesNotKnowWhatAProcessThatEndedDuringAnAttachHadEmittedBefore) {
  EXPECT_EQ(released_span(0).missed, 10U);
  const Released ended = released_span(0, true);
  EXPECT_EQ(ended.missed, 0U);
  EXPECT_TRUE(ended.span.entry().before_attach);
}

TEST(Reader, KnowsThatAProcessThatEndedSoonAfterItsBeginEmittedNothingBefore) {
  const Released ended = released_span(0, true, 0);
  EXPECT_EQ(ended.missed, 0U);
  EXPECT_FALSE(ended.span.entry().before_attach);
  EXPECT_TRUE(released_span(0, true, 0, 2500).span.entry().before_attach) << "in the middle of an attach";
}

// What is missing of a thread whose end shows a gap at time 4000.
std::uint64_t missing_at_the_end(std::uint64_t detaching_since_ns) {
  Reader reader(kNoFilter);
  KeptEntries kept;
  start(reader, kept);
  reader.on_mark(Mark::live, kClock.monotonic_ns);
  reader.on_attach({100, false, true});
  reader.on_process(described(7, false));
  reader.on_mark(Mark::settled, kClock.monotonic_ns);
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
    reader.on_batch(message, batch.bytes());
  };
  take(NOPSPAN_MESSAGE_BATCH, 0, 1000);
  reader.on_mark(Mark::detach_begins, detaching_since_ns);
  take(NOPSPAN_MESSAGE_ENDED, 5, 4000);
  return reader.account(7).counts().missed;
}

// What is missing of a process whose first message, with the sequence 10, waited until everything was attached.
struct Early : testing::Test {
  Early() {
    start(reader, kept);
    BatchBuilder batch;
    batch.span("early", 1);
    nopspan_message message{};
    message.kind = NOPSPAN_MESSAGE_BATCH;
    message.pid = message.tgid = 7;
    message.sequence_id = 1;
    message.first = 10;
    message.next = 11;
    message.time_ns = kClock.monotonic_ns;
    reader.on_batch(message, batch.bytes());
  }
  Reader reader{kNoFilter};
  KeptEntries kept;
};

TEST_F(Early, WaitsForItsBegunHoweverLongTheAttachTook) {
  constexpr std::uint64_t kLater = kClock.monotonic_ns + 2 * HeldMessages::kLongest;
  reader.on_process(described(7, false));
  reader.on_mark(Mark::live, kLater);
  EXPECT_TRUE(kept.spans.empty());
  reader.on_attach({kLater, false, true});
  reader.on_mark(Mark::settled, kLater);
  EXPECT_EQ(kept.spans.size(), 1U);
  EXPECT_EQ(reader.account(7).counts().missed, 10U) << "it is known that the process is new";
}

TEST_F(Early, IsOfAProcessThatEndedDuringTheAttach) {
  reader.on_gone(7);
  reader.on_process(described(7, false));  // as it was before
  reader.on_mark(Mark::live, kClock.monotonic_ns);
  reader.on_mark(Mark::settled, kClock.monotonic_ns);
  EXPECT_EQ(kept.spans.size(), 1U);
  EXPECT_EQ(reader.account(7).counts().missed, 0U);
}

TEST_F(Early, IsPassedOnIfTheTracerIsKilled) {
  reader.on_process(described(7, false));
  reader.abandon();
  EXPECT_TRUE(kept.spans.empty()) << "the command is not live";
  reader.on_mark(Mark::live, kClock.monotonic_ns);
  EXPECT_TRUE(kept.spans.empty());
  reader.abandon();
  EXPECT_EQ(kept.spans.size(), 1U);
}

TEST(Reader, CountsNothingAsMissedThatWasEmittedAfterTheDetachBegan) {
  EXPECT_EQ(missing_at_the_end(4001), 4U);
  EXPECT_EQ(missing_at_the_end(4000), 0U);
  EXPECT_EQ(missing_at_the_end(0), 0U);
}

TEST(Reader, KnowsTheHostOfAProcessThatWasNotExaminedInTime) {
  const KeptEntry span = released_span(HeldMessages::described).span;
  const Process& process = **span.entry().process;
  EXPECT_EQ(process.pid, 7U);
  EXPECT_EQ(process.namespace_pid, process.pid);
  EXPECT_EQ(process.host, host_name());
  EXPECT_EQ(process.boot_id, boot_id());
  EXPECT_FALSE(process.boot_id.empty());
}

}  // namespace
}  // namespace nopspan::collector
