// SPDX-License-Identifier: Apache-2.0
// Entries of held messages: which are marked as before the attach, and what is known of their process. How messages
// are held, and which spans ran while the collector attached to a file.
#include "reader/reader.h"

#include "batch_builder.h"
#include "host/host_name.h"
#include "host/process_facts.h"
#include "kept_entry.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

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
  if (!has_ended) process.library = "/usr/lib/libnopspan.so";
  return {pid, std::make_shared<const Process>(process), false};
}

// What is known of a process while there is no time to examine it.
Described described_in_part(std::uint32_t pid) {
  Process process = unknown_process(pid);
  process.start_ticks = 1;
  process.comm = "server";
  return {pid, std::make_shared<const Process>(process), false};
}

// A message of process 7, with one span.
nopspan_message message_with(std::uint64_t sequence, std::uint64_t time_ns, unsigned kind = NOPSPAN_MESSAGE_BATCH) {
  nopspan_message message{};
  message.kind = kind;
  message.pid = message.tgid = 7;
  message.sequence_id = 1;
  message.first = sequence;
  message.next = sequence + 1;
  message.time_ns = time_ns;
  return message;
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
  reader.on_batch(message_with(first, time_ns), batch.bytes());
  EXPECT_TRUE(kept.spans.empty());
  if ((missing & HeldMessages::described) == 0) reader.on_process(described(7, has_ended));
  if ((missing & HeldMessages::begun) == 0) reader.on_mark(Mark::settled, kClock.monotonic_ns);
  if (missing != 0) reader.on_mark(Mark::time, time_ns + HeldMessages::kLongest);
  EXPECT_EQ(kept.spans.size(), 1U);
  return {kept.spans.at(0), reader.account(7).counts().missed};
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

// A reader of a tracer that is attached, and that knows process 7.
struct Attached {
  Attached() {
    start(reader, kept);
    reader.on_mark(Mark::live, kClock.monotonic_ns);
    reader.on_attach({100, false, true});
    reader.on_process(described(7, false));
    reader.on_mark(Mark::settled, kClock.monotonic_ns);
  }
  Counts counts() { return reader.account(7).counts(); }

  Reader reader{kNoFilter};
  KeptEntries kept;
};

// What is missing of a thread whose end shows a gap at time 4000.
std::uint64_t missing_at_the_end(std::uint64_t detaching_since_ns) {
  Attached to;
  BatchBuilder batch;
  batch.span("one", 1);
  to.reader.on_batch(message_with(0, 1000), batch.bytes());
  to.reader.on_mark(Mark::detach_begins, detaching_since_ns);
  to.reader.on_batch(message_with(5, 4000, NOPSPAN_MESSAGE_ENDED), batch.bytes());
  return to.counts().missed;
}

// What is missing of a process whose first message, with the sequence 10, waited until everything was attached.
struct Early : testing::Test {
  Early() {
    start(reader, kept);
    BatchBuilder batch;
    batch.span("early", 1);
    reader.on_batch(message_with(10, kClock.monotonic_ns), batch.bytes());
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

TEST(Reader, DeliversAnEntryOnceThatASecondBatchHasToo) {
  Attached to;
  BatchBuilder first, all;
  first.span("one", 1);
  for (const char* name : {"one", "two", "three"}) all.span(name, 1);
  to.reader.on_batch(message_with(0, 1000), first.bytes());
  nopspan_message message = message_with(0, 2000);
  message.next = 3;
  to.reader.on_batch(message, all.bytes());
  ASSERT_EQ(to.kept.spans.size(), 3U);
  EXPECT_EQ(to.kept.spans[0].entry().name, "one");
  EXPECT_EQ(to.kept.spans[1].entry().name, "two");
  EXPECT_EQ(to.counts().delivered, 3U);
}

// A live reader that has received a span of process 7, of which it knows nothing.
struct NewProcess : testing::Test {
  NewProcess() {
    start(reader, kept);
    reader.on_mark(Mark::live, kClock.monotonic_ns);
    reader.on_attach({100, false, true});
    reader.on_mark(Mark::settled, kClock.monotonic_ns);
    BatchBuilder batch;
    batch.span("first", 1);
    reader.on_batch(message_with(0, kClock.monotonic_ns), batch.bytes());
  }
  Reader reader{kNoFilter};
  KeptEntries kept;
};

TEST_F(NewProcess, IsHeldUntilItsServiceIsKnown) {
  reader.on_process(described_in_part(7));
  reader.on_mark(Mark::time, kClock.monotonic_ns);
  EXPECT_TRUE(kept.spans.empty()) << "there was no time to examine it";
  Process process = *described(7, false).process;
  process.service_name = "shop";
  reader.on_process({7, std::make_shared<const Process>(process), false});
  reader.on_mark(Mark::time, kClock.monotonic_ns + HeldMessages::kLongest - 1);
  ASSERT_EQ(kept.spans.size(), 1U);
  EXPECT_EQ((*kept.spans[0].entry().process)->service_name, "shop");
}

TEST_F(NewProcess, IsNotHeldLongerThanAllowedIfItIsNeverExamined) {
  reader.on_process(described_in_part(7));
  reader.on_mark(Mark::time, kClock.monotonic_ns + HeldMessages::kLongest);
  ASSERT_EQ(kept.spans.size(), 1U);
  EXPECT_EQ((*kept.spans[0].entry().process)->comm, "server");
  BatchBuilder batch;
  batch.span("second", 1);
  reader.on_batch(message_with(1, kClock.monotonic_ns + HeldMessages::kLongest), batch.bytes());
  EXPECT_EQ(kept.spans.size(), 2U) << "it waits once";
}

TEST_F(NewProcess, IsNotHeldIfItHasEnded) {
  reader.on_process(described(7, true));
  reader.on_mark(Mark::time, kClock.monotonic_ns);
  EXPECT_EQ(kept.spans.size(), 1U);
}

TEST(Reader, CountsWhatIsMissingInABatchWithoutLookingAtEachEntry) {
  Attached to;
  BatchBuilder batch;
  batch.span("one", 1);
  constexpr std::uint64_t kMany = std::uint64_t{1} << 50U;
  nopspan_message message = message_with(0, UINT64_MAX / 2);
  message.next = kMany;
  to.reader.on_batch(message, batch.bytes());
  const Counts counts = to.counts();
  EXPECT_TRUE(counts.is_balanced());
  EXPECT_EQ(counts.delivered, 1U);
  EXPECT_EQ(counts.malformed, kMany - 1);
}

nopspan_message message_of(std::uint32_t pid, std::uint64_t sequence) {
  nopspan_message message{};
  message.pid = pid;
  message.first = sequence;
  return message;
}

std::vector<std::uint64_t> sequences(const HeldMessages::Released& released) {
  std::vector<std::uint64_t> all;
  for (const auto& one : released.messages) all.push_back(one.message.first);
  return all;
}

TEST(HeldMessages, ReleasesMessagesInOrderWhenEverythingHasHappened) {
  HeldMessages held;
  EXPECT_FALSE(held.holds(7));
  held.hold(7, HeldMessages::live | HeldMessages::described, 1000);
  held.hold(8, HeldMessages::described, 1000);
  for (const std::uint64_t sequence : {1, 2}) EXPECT_TRUE(held.add(message_of(7, sequence), "bytes"));
  held.happened(7, HeldMessages::described);
  EXPECT_TRUE(held.take_due(2000).empty());
  held.happened(HeldMessages::live);
  const auto due = held.take_due(2000);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].pid, 7U);
  EXPECT_EQ(due[0].missing, 0U);
  EXPECT_EQ(sequences(due[0]), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(due[0].messages[0].bytes, "bytes");
  EXPECT_FALSE(held.holds(7));
  EXPECT_TRUE(held.holds(8));
}

TEST(HeldMessages, ReleasesMessagesThatHaveWaitedTooLong) {
  HeldMessages held;
  held.hold(7, HeldMessages::begun, 1000);
  EXPECT_TRUE(held.add(message_of(7, 1), ""));
  held.hold(7, HeldMessages::described, 2000);  // does not prolong the time
  EXPECT_TRUE(held.take_due(1000 + HeldMessages::kLongest - 1).empty());
  const auto due = held.take_due(1000 + HeldMessages::kLongest);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].missing, unsigned{HeldMessages::begun | HeldMessages::described});
  EXPECT_EQ(sequences(due[0]), std::vector<std::uint64_t>{1});
}

TEST(HeldMessages, BoundsTheMemoryOfAProcessAndOfAll) {
  HeldMessages held;
  const std::string bytes(100'000, 'x');
  const auto fill = [&](std::uint32_t pid) {
    held.hold(pid, HeldMessages::described, 1000);
    std::size_t messages = 0;
    while (held.add(message_of(pid, messages), bytes)) ++messages;
    return messages;
  };
  const std::size_t of_one = HeldMessages::kMostBytesOfProcess / (bytes.size() + sizeof(HeldMessages::Message));
  EXPECT_EQ(fill(1), of_one);
  std::size_t of_all = of_one;
  for (std::uint32_t pid = 2; pid < 40; ++pid) of_all += fill(pid);
  EXPECT_EQ(of_all, HeldMessages::kMostBytes / (bytes.size() + sizeof(HeldMessages::Message)));
  // What is released makes room.
  EXPECT_EQ(held.take(1).messages.size(), of_one);
  EXPECT_EQ(fill(40), of_one);
}

TEST(AttachTimes, OverlapEverythingUntilTheFirstAttachHasEnded) {
  AttachTimes times;
  EXPECT_TRUE(times.overlap(5, 6));
  times.end(100, true);
  EXPECT_TRUE(times.overlap(5, 6)) << "given times from before the attach";
  EXPECT_TRUE(times.overlap(99, 200));
  EXPECT_FALSE(times.overlap(100, 200));
}

TEST(AttachTimes, OverlapWhatBeganBeforeTheEndOfAnAttachAndEndedAfterItsBegin) {
  AttachTimes times;
  times.end(100, true);
  times.begin(200);
  EXPECT_FALSE(times.overlap(150, 199));
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_TRUE(times.overlap(300, 400)) << "the end is not known yet";
  times.end(210, true);
  EXPECT_FALSE(times.overlap(100, 199));
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_TRUE(times.overlap(150, UINT64_MAX));
  EXPECT_TRUE(times.overlap(204, 205));
  EXPECT_TRUE(times.overlap(209, 300));
  EXPECT_FALSE(times.overlap(210, 300));
}

TEST(AttachTimes, ForgetAnAttachThatFailed) {
  AttachTimes times;
  times.end(100, true);
  times.begin(200);
  times.end(210, false);
  EXPECT_FALSE(times.overlap(150, 300));
  times.end(400, true);  // none is in progress
  EXPECT_FALSE(times.overlap(150, 500));
}

TEST(AttachTimes, AreOneForSeveralFilesThatAreAttachedToAtOnce) {
  AttachTimes times;
  times.begin(50);  // the first one is still in progress
  times.end(100, true);
  times.begin(200);
  times.begin(205);
  times.end(210, true);
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_FALSE(times.overlap(100, 199));
}

TEST(AttachTimes, AreBounded) {
  AttachTimes times;
  times.end(100, true);
  constexpr std::uint64_t kMany = 5000;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    times.begin(1000 * i);
    times.end(1000 * i + 10, true);
  }
  EXPECT_TRUE(times.overlap(1000 * kMany - 1, 1000 * kMany + 1));
  EXPECT_FALSE(times.overlap(1000 * kMany - 100, 1000 * kMany - 1));
  // What is too long ago to be known counts as overlapped.
  EXPECT_TRUE(times.overlap(1500, 1501));
}

}  // namespace
}  // namespace nopspan::collector
