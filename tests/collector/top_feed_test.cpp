// SPDX-License-Identifier: Apache-2.0
// The feed of `nopspan top`: from spans and ticks to snapshots.
#include "top/top_feed.h"

#include "invented_spans.h"
#include "kept_entry.h"

#include <nopspan/probes.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

// A feed whose snapshots are kept.
struct Feed {
  explicit Feed(Filter filter = {}, bool at_once = false, TopRequest request = {})
      : feed(source, std::move(filter), 10, 100, every_two_seconds(std::move(request)), at_once,
             [this](TopSnapshotPointer snapshot) { snapshots.push_back(std::move(snapshot)); }) {
    source.now.total.delivered = 7;
  }

  static TopRequest every_two_seconds(TopRequest request) {
    request.interval_ns = 2 * kSecond;
    return request;
  }

  void pass(std::uint64_t seconds) {
    for (std::uint64_t i = 0; i < 10 * seconds; ++i) feed.on_tick(now += kSecond / 10);
  }

  LedgerSource source;
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
  EXPECT_EQ(feed.snapshots[4]->ledger.total.delivered, 7U);
  EXPECT_FALSE(feed.snapshots[4]->is_last);
}

TEST(TopFeed, TellsTheFirstAtOnceWhereThatIsWanted) {
  Feed feed({}, true);
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

TEST(TopFeed, TellsARowsDetailAndWhatItHasCountedByAnotherGroupingWithTheNextTick) {
  Feed feed({}, false, {.others = {{Dimension::model}}, .all_spans = true});
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
  EXPECT_EQ(feed.snapshots[1]->table.total.spans, 1U);
  EXPECT_EQ(feed.snapshots[2]->table.total.spans, 2U);
  ASSERT_THAT(feed.snapshots[2]->table.rows, SizeIs(1));
  EXPECT_THAT(feed.snapshots[2]->table.rows[0].texts, ElementsAre("m"));
}

TEST(TopFeed, CountsWhatTheFilterRemovesAsFiltered) {
  Feed feed({.name = "a"});
  EXPECT_FALSE(feed.feed.has_matched());
  for (const char* name : {"a", "b", "a"}) {
    feed.feed.on_entry(invented(name, "m"));
    feed.feed.on_entry(invented(name, "m", Kind::gauge));
  }
  feed.feed.finish();
  EXPECT_TRUE(feed.feed.has_matched());
  EXPECT_EQ(feed.snapshots[0]->table.total.spans, 2U);
  EXPECT_THAT(feed.snapshots[0]->gauges, SizeIs(1));
  EXPECT_EQ(feed.snapshots[0]->ledger.total.delivered, 5U);
  EXPECT_EQ(feed.snapshots[0]->ledger.total.filtered, 2U);
}

TEST(TopFeed, TakesNoStepForAMatchOfARequest) {
  Feed feed({.request = "zzz"});
  nopspan_member member{};
  Entry step = invented("engine.step", "m");
  step.members = {reinterpret_cast<const char*>(&member), sizeof(member)};
  feed.feed.on_entry(step);
  EXPECT_FALSE(feed.feed.has_matched());
  step.trace_id = trace_id_of("zzz");
  feed.feed.on_entry(step);
  EXPECT_TRUE(feed.feed.has_matched());
}

// Two clients call a server: each call is a span of the client and a span of the server, with the same tokens. The
// server also answers a client that is not traced, and one that did not wait for the tokens.
TEST(TopFeed, CountsATokenThatClientAndServerReportOnceInEachGrouping) {
  const std::vector<Grouping> groupings = {{Dimension::name, Dimension::model},
                                           {Dimension::name},
                                           {Dimension::model},
                                           {Dimension::tenant},
                                           {Dimension::process},
                                           {Dimension::engine},
                                           {Dimension::tool, Dimension::error},
                                           {Dimension("route")}};
  const ProcessPointer client = invented_process(1), server = invented_process(2);
  for (const Grouping& by : groupings) {
    Feed feed({}, false, {.by = by});
    feed.feed.on_tick(kNoon);
    std::uint64_t id = 0;
    const auto tell = [&](const char* name, const ProcessPointer& process, std::uint64_t parent, unsigned tokens) {
      Entry entry = invented(name, "m");
      const std::string route = text_attribute("route", name);
      entry.attributes = route;
      entry.text = entry.error_type = name;
      entry.tenant = "acme";
      entry.process = &process;
      entry.trace_id.bytes[0] = 1;
      entry.span_id = entry.root_id = ++id;
      entry.parent_id = parent;
      if (&process == &server) entry.flags = NOPSPAN_FLAG_REMOTE_PARENT;
      entry.has_usage = entry.counts_tokens = tokens != 0;
      entry.usage.input = tokens;
      entry.usage.output = 2 * tokens;
      feed.feed.on_entry(entry);
    };
    for (unsigned call = 1; call <= 10; ++call) {
      const bool server_is_first = call % 2 == 0;
      if (server_is_first) tell("engine.request", server, id + 2, call);
      tell("llm.step", client, 0, call);
      if (!server_is_first) {
        feed.pass(call);
        tell("engine.request", server, id, call);
      }
    }
    tell("engine.request", server, 999, 100);
    tell("llm.step", client, 0, 0);
    tell("engine.request", server, id, 1000);
    feed.feed.finish();
    const TableNumbers& table = feed.snapshots.back()->table;
    std::uint64_t input = 0, output = 0;
    for (const RowNumbers& row : table.rows) {
      input += row.total.tally.input_tokens;
      output += row.total.tally.output_tokens;
    }
    EXPECT_EQ(input, 1155U) << to_text(by);
    EXPECT_EQ(output, 2310U) << to_text(by);
    EXPECT_EQ(table.total.input_tokens, 1155U) << to_text(by);
  }
}

// A client's span, a span between that reports no tokens, and the server's span.
TEST(TopFeed, CountsTokensOnceIfTheFilterRemovesSpansOfTheCall) {
  const auto tokens = [](const Filter& filter) {
    Feed feed(filter, false, {.by = {Dimension::tenant}});
    const auto tell = [&feed](const char* name, const char* model, std::uint64_t id, std::uint64_t parent) {
      Entry entry = invented(name, model);
      entry.trace_id.bytes[0] = 1;
      entry.span_id = id;
      entry.parent_id = parent;
      entry.has_usage = entry.counts_tokens = entry.model == "m";
      entry.usage.input = 7;
      feed.feed.on_entry(entry);
    };
    tell("engine.request", "m", 30, 20);
    tell("http.request", "", 20, 10);
    tell("llm.step", "m", 10, 0);
    feed.feed.finish();
    return feed.snapshots[0]->table.total.input_tokens;
  };
  EXPECT_EQ(tokens({.model = "m"}), 7U) << "without the span between";
  EXPECT_EQ(tokens({.name = "engine.request"}), 7U) << "the server's";
  EXPECT_EQ(tokens({.name = "llm.step"}), 7U) << "the client's";
}

TEST(TopFeed, ShowsRootSpansUnlessNamesOrAllSpansAreWanted) {
  const auto spans = [](const Filter& filter, const TopRequest& request) {
    Feed feed(filter, false, request);
    Entry entry = invented("a", "m");
    feed.feed.on_entry(entry);
    entry.span_id = entry.root_id;
    feed.feed.on_entry(entry);
    feed.feed.finish();
    return feed.snapshots[0]->table.rows[0].total.tally.spans;
  };
  for (const Dimension& by : parse_grouping("model,tenant,process,engine,route")) {
    EXPECT_EQ(spans({}, {.by = {by}}), 1U);
    EXPECT_EQ(spans({.model = "m"}, {.by = {by}}), 1U);
    EXPECT_EQ(spans({}, {.by = {by}, .all_spans = true}), 2U);
    EXPECT_EQ(spans({.name = "a"}, {.by = {by}}), 2U);
    for (const char* of_span : {"name", "tool", "error"}) {
      EXPECT_EQ(spans({}, {.by = {by, parse_grouping(of_span)[0]}}), 2U) << of_span;
    }
  }
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
  EXPECT_EQ(feed.snapshots.back()->all_processes, 2U);
  EXPECT_EQ(feed.snapshots.back()->host, "host");
}

TEST(TopFeed, CountsEventsAndReadsGauges) {
  Feed feed;
  feed.feed.on_entry(invented("a", "m", Kind::event));
  feed.feed.on_entry(invented("a", "m", Kind::gauge));
  feed.feed.finish();
  EXPECT_EQ(feed.snapshots[0]->events, 1U);
  EXPECT_THAT(feed.snapshots[0]->gauges, SizeIs(1));
  EXPECT_EQ(feed.snapshots[0]->table.total.spans, 0U);
}

TEST(TopFeed, CountsRequestsFromBeforeTheAttachThatStepsHave) {
  Feed feed;
  feed.pass(2);
  nopspan_member members[3] = {};
  members[0].request = members[2].request = 7;
  members[0].flags = members[2].flags = NOPSPAN_MEMBER_OWN_KEY;
  members[1].request = 8;  // its span is recorded by another process
  members[1].flags = NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY;
  const nopspan_step facts{};
  Entry step = invented("engine.step", "m");
  step.step = &facts;
  step.members = {reinterpret_cast<const char*>(members), sizeof(members)};
  feed.feed.on_entry(step);
  step.kind = Kind::part;
  step.step = nullptr;
  feed.feed.on_entry(step);
  feed.pass(4);
  EXPECT_EQ(feed.snapshots.back()->early_requests, 1U);
  EXPECT_EQ(feed.snapshots.back()->table.total.spans, 1U) << "a part is not a span";
  feed.pass(20);
  EXPECT_EQ(feed.snapshots.back()->early_requests, 0U);
  EXPECT_EQ(feed.snapshots.back()->all_early_requests, 1U);
}

TEST(TopFeed, CountsRequestsFromBeforeTheAttachOverItsLimit) {
  Feed feed;
  feed.pass(2);
  std::vector<nopspan_member> members(TopFeed::kMostEarly + 3);
  for (std::size_t i = 0; i < members.size(); ++i) {
    members[i].request = i + 1;
    members[i].flags = NOPSPAN_MEMBER_OWN_KEY;
  }
  Entry part = invented("engine.step", "m", Kind::part);
  part.members = {reinterpret_cast<const char*>(members.data()), members.size() * sizeof(nopspan_member)};
  feed.feed.on_entry(part);
  feed.feed.finish();
  EXPECT_EQ(feed.snapshots.back()->early_requests, TopFeed::kMostEarly);
  EXPECT_EQ(feed.snapshots.back()->early_dropped, 3U);
}

}  // namespace
}  // namespace nopspan::collector
