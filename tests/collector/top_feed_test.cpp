// SPDX-License-Identifier: Apache-2.0
// The feed of `nopspan top`: from spans and ticks to snapshots.
#include "top/top_feed.h"

#include "invented_spans.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

class NoSource : public Source {
 public:
  void run(Sink&, Deadline&) override {}
  [[nodiscard]] Ledger ledger() const override {
    Ledger ledger;
    ledger.total.delivered = 7;
    return ledger;
  }
};

// A feed whose snapshots are kept.
struct Feed {
  explicit Feed(bool at_once = false)
      : feed(source, 10, 100, {.interval_ns = 2 * kSecond}, at_once,
             [this](TopSnapshotPointer snapshot) { snapshots.push_back(std::move(snapshot)); }) {}

  void pass(std::uint64_t seconds) {
    for (std::uint64_t i = 0; i < 10 * seconds; ++i) feed.on_tick(now += kSecond / 10);
  }

  NoSource source;
  std::vector<TopSnapshotPointer> snapshots;
  std::uint64_t now = kNoon;
  TopFeed feed;
};

TEST(TopFeed, TellsTheNumbersAfterEachInterval) {
  Feed feed;
  feed.feed.on_tick(kNoon);
  for (int i = 0; i < 5; ++i) {
    feed.feed.on_entry(invented("a", "m"));
    feed.pass(2);
  }
  ASSERT_THAT(feed.snapshots, SizeIs(5));
  EXPECT_EQ(feed.snapshots[0]->table.now_unix_ns, kNoon + 2 * kSecond);
  EXPECT_EQ(feed.snapshots[4]->table.now_unix_ns, kNoon + 10 * kSecond);
  EXPECT_EQ(feed.snapshots[4]->table.total.spans, 5U);
  EXPECT_EQ(feed.snapshots[4]->sequence, 5U);
  EXPECT_EQ(feed.snapshots[4]->counts.delivered, 7U);
  EXPECT_FALSE(feed.snapshots[4]->is_last);
}

TEST(TopFeed, TellsTheFirstAtOnceWhereThatIsWanted) {
  Feed feed(true);
  feed.feed.on_tick(kNoon);
  EXPECT_THAT(feed.snapshots, SizeIs(1));
}

TEST(TopFeed, TellsTheLastWhenTheSourceHasEnded) {
  Feed feed;
  feed.feed.on_entry(invented("a", "m"));
  feed.feed.finish();
  ASSERT_THAT(feed.snapshots, SizeIs(1));
  EXPECT_TRUE(feed.snapshots[0]->is_last);
  EXPECT_EQ(feed.snapshots[0]->table.total.spans, 1U);
}

TEST(TopFeed, GoesOnWhenTheClockLeapsOrIsSetBack) {
  Feed feed;
  feed.pass(2);
  feed.now += 1'000'000 * kSecond;
  feed.pass(4);
  const std::size_t before = feed.snapshots.size();
  feed.now -= 2'000'000 * kSecond;
  feed.pass(4);
  EXPECT_GE(feed.snapshots.size(), before + 1);
  EXPECT_LE(feed.snapshots.size(), before + 3);
}

TEST(TopFeed, TellsARowsDetailAndBeginsAnewByAnotherGroupingWithTheNextTick) {
  Feed feed;
  feed.feed.on_tick(kNoon);
  feed.feed.on_entry(invented("a", "m"));
  TopRequest request;
  request.detail = TopRequest::Row{{"a", "m"}, 0};
  feed.feed.ask(request);
  feed.feed.on_tick(kNoon + 1);
  ASSERT_THAT(feed.snapshots, SizeIs(1));
  ASSERT_TRUE(feed.snapshots[0]->detail);
  EXPECT_EQ(feed.snapshots[0]->detail->numbers.total.tally.spans, 1U);

  request.by = {Dimension::model};
  request.detail.reset();
  feed.feed.ask(request);
  feed.feed.on_tick(kNoon + 2);
  feed.feed.on_entry(invented("a", "m"));
  feed.feed.finish();
  ASSERT_THAT(feed.snapshots, SizeIs(3));
  EXPECT_EQ(feed.snapshots[1]->table.total.spans, 0U);
  ASSERT_THAT(feed.snapshots[2]->table.rows, SizeIs(1));
  EXPECT_THAT(feed.snapshots[2]->table.rows[0].texts, ElementsAre("m"));
}

TEST(TopFeed, CountsProcessesAsLongAsSomethingComesFromThem) {
  Feed feed;
  feed.pass(2);
  const ProcessPointer first = invented_process(1), second = invented_process(2);
  Entry entry = invented("a", "m");
  for (const ProcessPointer* process : {&first, &second}) {
    entry.process = process;
    feed.feed.on_entry(entry);
  }
  feed.pass(8);
  EXPECT_EQ(feed.snapshots.back()->processes, 2U);
  feed.feed.on_entry(entry);
  feed.pass(4);
  EXPECT_EQ(feed.snapshots.back()->processes, 1U);
  EXPECT_EQ(feed.snapshots.back()->host, "host");
}

TEST(TopFeed, CountsEventsAndReadsGauges) {
  Feed feed;
  Entry entry = invented("a", "m");
  entry.kind = Kind::event;
  feed.feed.on_entry(entry);
  entry.kind = Kind::gauge;
  feed.feed.on_entry(entry);
  feed.feed.finish();
  EXPECT_EQ(feed.snapshots[0]->events, 1U);
  EXPECT_THAT(feed.snapshots[0]->gauges, SizeIs(1));
  EXPECT_EQ(feed.snapshots[0]->table.total.spans, 0U);
}

}  // namespace
}  // namespace nopspan::collector
