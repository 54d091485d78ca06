// SPDX-License-Identifier: Apache-2.0
// Assembling spans to whole traces, whatever the order in which they arrive.
#include "trace/trace_assembler.h"

#include "assembled_traces.h"

#include <gmock/gmock.h>
#include <malloc.h>

#include <array>
#include <numeric>
#include <random>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;

class AssembledTraces : public testing::Test, public Assembly {};

Entry remote_span(std::uint64_t id, std::uint64_t parent) {
  Entry entry = span_of(id, parent);
  entry.flags = NOPSPAN_FLAG_REMOTE_PARENT;
  entry.root_id = id;
  return entry;
}

Entry early(Entry entry) {
  entry.before_attach = true;
  return entry;
}

TEST(TraceLimits, AllowMoreTracesIfTheyMayHaveMoreMemory) {
  const TraceLimits usual;
  EXPECT_EQ(TraceLimits::traces_for(1U << 20U), usual.traces);
  EXPECT_EQ(TraceLimits::traces_for(usual.bytes), usual.traces);
  EXPECT_EQ(TraceLimits::traces_for(16 * usual.bytes), 16 * usual.traces);
}

TEST_F(AssembledTraces, HandsOverATraceWhenNothingCameForTheGraceTime) {
  add(span_of(2, 1), span_of(1, 0));
  wait(1500 * kMillisecond);
  EXPECT_THAT(seen, IsEmpty());
  wait(100 * kMillisecond);
  EXPECT_EQ(only().end, TraceEnd::finished);
  EXPECT_THAT(only().parents, ElementsAre(Pair(1, 0), Pair(2, 1)));
  EXPECT_THAT(only().roots, ElementsAre(Pair(1, RootKind::request)));
  EXPECT_EQ(only().duration_ns, kSecond);
  EXPECT_EQ(assembler.open_traces(), 0U);
}

TEST_F(AssembledTraces, WaitsAgainWhenSomethingComes) {
  add(span_of(1, 0));
  wait(1400 * kMillisecond);
  add(span_of(2, 1));
  wait(1400 * kMillisecond);
  EXPECT_THAT(seen, IsEmpty());
  wait(kSecond);
  EXPECT_THAT(only().parents, SizeIs(2));
}

TEST_F(AssembledTraces, MakesTheSameTreeOfEveryOrder) {
  //  1 ─┬─ 2 ─┬─ 3
  //     │     └─ 4
  //     └─ 5, an event in 4 and one in 1
  std::vector<Entry> spans = {span_of(1, 0), span_of(2, 1),          span_of(3, 2),        span_of(4, 2),
                              span_of(5, 1), event_of(4, "in four"), event_of(1, "in one")};
  std::vector<std::size_t> order(spans.size());
  std::iota(order.begin(), order.end(), 0);
  do {
    Assembly assembly;
    for (const std::size_t i : order) assembly.add(spans[i]);
    assembly.wait(2 * kSecond);
    ASSERT_THAT(assembly.only().parents, ElementsAre(Pair(1, 0), Pair(2, 1), Pair(3, 2), Pair(4, 2), Pair(5, 1)));
    ASSERT_THAT(assembly.only().events, ElementsAre(Pair("in four", 4), Pair("in one", 1)));
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(AssembledTraces, DoesNotTakeTheFirstTickForALongTime) {
  add(span_of(2, 1));  // before the first tick
  wait(100 * kMillisecond);
  add(span_of(1, 0));
  wait(100 * kMillisecond);
  EXPECT_THAT(seen, IsEmpty());
}

TEST_F(AssembledTraces, OutlivesAClockThatIsSetBack) {
  wait(kSecond);
  add(span_of(1, 0));
  now -= 3600 * kSecond;
  wait(2 * kSecond);
  EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(AssembledTraces, KeepsTracesApart) {
  add(span_of(1, 0), in_trace(2, span_of(1, 0)), span_of(2, 1));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_THAT(seen[0].parents, SizeIs(1));
  EXPECT_THAT(seen[1].parents, SizeIs(2));
}

TEST_F(AssembledTraces, CountsWhatIsInNoRequest) {
  Entry nowhere = event_of(0);
  nowhere.trace_id = {};
  add(nowhere);
  Entry gauge = nowhere;
  gauge.kind = Kind::gauge;
  add(gauge);
  EXPECT_EQ(assembler.counts().outside, 1U);
  EXPECT_EQ(assembler.open_traces(), 0U);
}

TEST_F(AssembledTraces, ShowsASpanWhoseParentIsMissingAsATop) {
  add(span_of(1, 0), span_of(4, 3), span_of(5, 4));
  wait(2 * kSecond);
  EXPECT_THAT(only().roots, ElementsAre(Pair(1, RootKind::request), Pair(4, RootKind::missing)));
  EXPECT_EQ(only().parents.at(5), 4U);
}

TEST_F(AssembledTraces, HoldsATraceWhoseRootSpanIsStillToCome) {
  add(span_of(2, 1));
  wait(60 * kSecond);
  EXPECT_THAT(seen, IsEmpty());
  EXPECT_EQ(assembler.counts().held, 1U);
  add(span_of(1, 0));
  wait(2 * kSecond);
  EXPECT_THAT(only().parents, SizeIs(2));
}

TEST_F(AssembledTraces, CallsTheLastTracesUnfinishedIfTheSourceIsCut) {
  add(span_of(1, 0));
  wait(2 * kSecond);
  add(in_trace(2, span_of(1, 0)), in_trace(3, remote_span(2, 1)), in_trace(4, early(span_of(1, 0))), span_of(2, 1));
  assembler.finish(true);
  std::vector<TraceEnd> ends;
  for (const Seen& one : seen) ends.push_back(one.end);
  EXPECT_THAT(ends, ElementsAre(TraceEnd::finished, TraceEnd::unfinished, TraceEnd::unfinished, TraceEnd::unfinished,
                                TraceEnd::late));
}

TEST_F(AssembledTraces, HandsOverWhatNeverEndedWhenTheSourceEnds) {
  add(span_of(2, 1), in_trace(2, span_of(1, 0)));
  assembler.finish();
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_EQ(seen[0].end, TraceEnd::unfinished);
  EXPECT_EQ(seen[1].end, TraceEnd::finished);
  EXPECT_EQ(assembler.counts().held, 0U);
}

// ---- Several processes

TEST_F(AssembledTraces, JoinsProcesses) {
  const ProcessPointer server = process_number(8, "server");
  Entry request = of_process(server, remote_span(10, 2));
  add(of_process(server, span_of(11, 10)), request, span_of(2, 1), span_of(1, 0));
  wait(2 * kSecond);
  EXPECT_THAT(only().parents, ElementsAre(Pair(1, 0), Pair(2, 1), Pair(10, 2), Pair(11, 10)));
  EXPECT_THAT(only().roots, ElementsAre(Pair(1, RootKind::request)));
}

TEST_F(AssembledTraces, TakesARemoteParentThatIsNotSeenForARoot) {
  add(remote_span(10, 99));
  wait(2 * kSecond);
  EXPECT_EQ(only().end, TraceEnd::finished);
  EXPECT_THAT(only().roots, ElementsAre(Pair(10, RootKind::remote)));
}

TEST_F(AssembledTraces, WaitsLongerForARemoteParentWhereClientsAreSeen) {
  const ProcessPointer server = process_number(8, "server");
  Entry request = of_process(server, remote_span(10, 2));
  add(span_of(1, 0));
  wait(2 * kSecond);
  seen.clear();
  Entry client = span_of(2, 0);
  request.trace_id = client.trace_id = trace_number(2);
  add(request);
  wait(5 * kSecond);
  EXPECT_THAT(seen, IsEmpty()) << "the client is waiting for its next attempt";
  add(client);
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(1));
  EXPECT_EQ(seen[0].parents[10], 2U);
}

TEST_F(AssembledTraces, LearnsThatClientsAreOnOtherHosts) {
  const ProcessPointer server = process_number(8, "server");
  add(span_of(1, 0));  // of another process
  wait(2 * kSecond);
  for (const std::uint8_t trace : {2, 3}) {
    seen.clear();
    add(in_trace(trace, of_process(server, remote_span(10, 99))));
    wait(2 * kSecond);
    EXPECT_THAT(seen, SizeIs(trace == 2 ? 0 : 1));
    wait(10 * kSecond);
    EXPECT_THAT(seen, SizeIs(1));
  }
}

TEST_F(AssembledTraces, KnowsByAnEventThatItsSpanGoesOn) {
  const ProcessPointer server = process_number(8, "server");
  add(of_process(server, remote_span(10, 2)), event_of(2, "prompt.sent"));
  wait(60 * kSecond);
  EXPECT_THAT(seen, IsEmpty());
  add(span_of(2, 1), span_of(1, 0));
  wait(2 * kSecond);
  EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(AssembledTraces, GivesUpWhatBeganBeforeTheAttach) {
  Entry orphan = span_of(2, 0);
  orphan.flags = NOPSPAN_FLAG_ORPHAN;
  add(orphan);
  add(remote_span(3, 2));  // a span of another process, below the orphan
  wait(kSecond);
  EXPECT_THAT(seen, IsEmpty());
  wait(kSecond);
  EXPECT_EQ(only().end, TraceEnd::unfinished);
  EXPECT_THAT(only().roots, ElementsAre(Pair(2, RootKind::orphan)));
}

TEST_F(AssembledTraces, GivesUpWhatBeganBeforeTheAttachAlsoIfItLacksMore) {
  Entry orphan = span_of(2, 0);
  orphan.flags = NOPSPAN_FLAG_ORPHAN;
  add(orphan, span_of(5, 4));
  wait(5 * kSecond);
  EXPECT_THAT(seen, IsEmpty()) << "span 4 may still be running";
  wait(7 * kSecond);
  EXPECT_EQ(only().end, TraceEnd::unfinished);
  EXPECT_THAT(only().roots, ElementsAre(Pair(2, RootKind::orphan), Pair(5, RootKind::missing)));
}

// ---- Linked spans

TEST_F(AssembledTraces, AddsALinkedSpanToTheTracesThatItLinksTo) {
  encodes = true;
  const std::string_view both = links_to({{trace_number(1), 2}, {trace_number(2), 1}});
  for (std::uint64_t id = 100; id < 110; ++id) {
    add(linked_span(id, id == 105 ? links_to({{trace_number(1), 2}}) : both));
  }
  add(span_of(2, 1), span_of(1, 0), in_trace(2, span_of(1, 0)));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2)) << "no traces of their own";
  EXPECT_THAT(seen[0].linked, ElementsAre(Pair("engine.step", Pair(2, 10))));
  EXPECT_THAT(seen[1].linked, ElementsAre(Pair("engine.step", Pair(1, 9))));
  const auto& json = seen[0].json["linked"][0];
  EXPECT_EQ(json["sum_ns"], 10 * kMillisecond);
  EXPECT_EQ(json["max_ns"], kMillisecond);
  EXPECT_EQ(json["span_id"], "0000000000000002");
  EXPECT_FALSE(json.contains("spans"));
  EXPECT_EQ(assembler.counts().linked, 10U);
  EXPECT_EQ(assembler.counts().links.joined, 19U);
}

TEST_F(AssembledTraces, KeepsLinkedSpansOneByOneWhenAsked) {
  Assembly assembly({.linked_kept = 3});
  assembly.encodes = true;
  for (std::uint64_t id = 100; id < 105; ++id) assembly.add(linked_span(id, links_to({{trace_number(1), 1}})));
  assembly.add(span_of(1, 0));
  assembly.assembler.finish();
  const auto& json = assembly.only().json["linked"][0];
  EXPECT_EQ(json["count"], 5);
  ASSERT_THAT(json["spans"], SizeIs(3));
  EXPECT_EQ(json["spans"][0]["span_id"], "0000000000000064");
  EXPECT_EQ(json["spans"][0]["requests"], 1);
}

TEST_F(AssembledTraces, WaitsForTheLinkedSpansOfATraceThatHasEnded) {
  add(span_of(1, 0));
  wait(kSecond);
  add(linked_span(100, links_to({{trace_number(1), 1}})));  // the thread held it this long
  wait(kSecond);
  EXPECT_THAT(seen, IsEmpty());
  wait(kSecond);
  EXPECT_THAT(only().linked, SizeIs(1));
}

TEST_F(AssembledTraces, DoesNotWaitForWhatBeginsAfterATraceHasEnded) {
  add(span_of(1, 0));
  for (std::uint64_t id = 100; id < 110; ++id) {
    wait(500 * kMillisecond);
    Entry entry = linked_span(id, links_to({{trace_number(1), 1}}));
    entry.start_unix_ns += 10 * kSecond;
    add(entry);
  }
  ASSERT_THAT(seen, SizeIs(1));
  wait(2 * kSecond);
  EXPECT_GT(assembler.counts().links.late, 0U);
  EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(AssembledTraces, HoldsLinkedSpansUntilTheirTraceComes) {
  for (std::uint64_t id = 100; id < 130; ++id) {
    add(linked_span(id, links_to({{trace_number(1), 1}})));
    wait(kSecond);
  }
  EXPECT_EQ(assembler.open_traces(), 1U) << "the last linked span, which waits for its grace time";
  add(span_of(1, 0));
  wait(2 * kSecond);
  EXPECT_THAT(only().linked, ElementsAre(Pair("engine.step", Pair(1, 30))));
}

TEST_F(AssembledTraces, LeavesOutAndCountsWhatLinksToNothingThatIsKnown) {
  const std::string_view links = links_to({{trace_number(1), 1}});
  const std::size_t before = assembler.bytes();
  add(linked_span(100, links, ""));
  wait(5 * kSecond);
  EXPECT_EQ(assembler.counts().links.held, 1U);
  wait(10 * kSecond);
  EXPECT_EQ(assembler.counts().links.unknown, 1U);
  add(linked_span(101, links, ""), linked_span(102, links_to({{linked_span(102, "").trace_id, 102}}), ""));
  assembler.finish();
  EXPECT_EQ(assembler.counts().links.unknown, 3U);
  EXPECT_THAT(seen, IsEmpty());
  EXPECT_EQ(assembler.bytes(), before);
}

TEST_F(AssembledTraces, MarksATraceByItsLinkedSpansToo) {
  Assembly assembly({}, [](const Entry& entry) { return entry.failed() ? 2U : 1U; });
  Entry failed = linked_span(100, links_to({{trace_number(1), 1}}));
  failed.status = kError;
  assembly.add(failed, span_of(1, 0));
  assembly.assembler.finish();
  EXPECT_EQ(assembly.only().marks, 3U);
}

TEST_F(AssembledTraces, FollowsNoLinkToATraceThatNobodyWants) {
  Assembly assembly({}, {}, [](const TraceId& id) { return id == trace_number(1); });
  assembly.add(linked_span(100, links_to({{trace_number(1), 1}, {trace_number(2), 1}})), span_of(1, 0));
  assembly.assembler.finish();
  EXPECT_EQ(assembly.assembler.counts().links.filtered, 1U);
  EXPECT_EQ(assembly.assembler.counts().links.joined, 1U);
}

TEST_F(AssembledTraces, TakesATraceThatHasMoreThanLinksForOneOfItsOwn) {
  const Entry consumer = linked_span(100, links_to({{trace_number(1), 1}}), "consume");
  Entry child = span_of(101, 100);
  child.trace_id = consumer.trace_id;
  add(child, consumer);
  wait(2 * kSecond);
  EXPECT_EQ(only().end, TraceEnd::finished);
  EXPECT_THAT(only().parents, SizeIs(2));
}

TEST_F(AssembledTraces, TakesALinkedSpanInDoubtForOne) {
  Entry step = linked_span(100, links_to({{trace_number(1), 1}}));
  step.flags = NOPSPAN_FLAG_ORPHAN;
  add(step, span_of(1, 0));
  wait(2 * kSecond);
  EXPECT_THAT(only().linked, SizeIs(1));
}

TEST_F(AssembledTraces, BoundsWhatLinkedSpansTake) {
  Assembly assembly({.bytes = 1U << 20U, .traces = 500, .linked_kept = 100});
  for (std::uint64_t id = 100; id < 1500; ++id) {
    std::vector<std::pair<TraceId, std::uint64_t>> targets;
    for (std::uint64_t i = 0; i < 128; ++i) {
      TraceId target;
      for (std::size_t byte = 0; byte < 8; ++byte) {
        target.bytes[byte] = static_cast<unsigned char>((id * 100 + i) >> (8 * byte));
      }
      targets.emplace_back(target, i % 3);
    }
    Entry entry = linked_span(id, links_to(targets));
    entry.duration_ns = id << (id % 50);
    assembly.add(entry);
    if (id % 10 == 0) assembly.wait(100 * kMillisecond);
    ASSERT_LE(assembly.assembler.bytes(), (1U << 20U) + 10'000U);
    ASSERT_TRUE(assembly.adds_up());
  }
  assembly.assembler.finish();
  EXPECT_EQ(assembly.assembler.counts().held, 0U);
  EXPECT_EQ(assembly.assembler.counts().links.held, 0U);
}

TEST_F(AssembledTraces, BoundsTheKindsOfLinkedSpansOfATrace) {
  for (std::uint64_t id = 100; id < 1100; ++id) {
    add(linked_span(id, links_to({{trace_number(1), id}})));
  }
  add(span_of(1, 0));
  assembler.finish();
  EXPECT_EQ(assembler.counts().links.joined, 256U);
  EXPECT_EQ(assembler.counts().links.over_limit, 744U);
}

TEST_F(AssembledTraces, OutlivesLinkedSpansThatLinkToEachOther) {
  add(linked_span(100, links_to({{linked_span(101, "").trace_id, 101}})));
  add(linked_span(101, links_to({{linked_span(100, "").trace_id, 100}})));
  wait(20 * kSecond);
  EXPECT_THAT(seen, IsEmpty());
  EXPECT_EQ(assembler.counts().links.unknown, 2U);
  EXPECT_EQ(assembler.counts().linked, 2U);
}

// ---- Partial traces

TEST_F(AssembledTraces, CallsATracePartialIfAnyEntryBeganBeforeTheAttach) {
  const std::array<std::array<Entry, 3>, 3> traces = {{
      {early(span_of(1, 0)), span_of(2, 1), event_of(2)},
      {span_of(1, 0), early(span_of(2, 1)), event_of(2)},
      {span_of(1, 0), span_of(2, 1), early(event_of(2))},
  }};
  for (const auto& trace : traces) {
    Assembly assembly;
    for (const Entry& entry : trace) assembly.add(entry);
    assembly.wait(2 * kSecond);
    EXPECT_EQ(assembly.only().end, TraceEnd::partial);
    EXPECT_TRUE(assembly.only().before_attach);
    EXPECT_EQ(assembly.assembler.counts().partial, 1U);
    EXPECT_EQ(assembly.assembler.counts().finished, 0U);
  }
}

TEST_F(AssembledTraces, CallsATracePartialIfThePartOfOneProcessIs) {
  static const ProcessPointer client = process_number(8, "client");
  Assembly assembly;
  assembly.add(early(remote_span(2, 1)), of_process(client, span_of(1, 0)));
  assembly.wait(11 * kSecond);
  EXPECT_EQ(assembly.only().end, TraceEnd::partial);
}

TEST_F(AssembledTraces, CallsATracePartialThoughItsParentIsOnAnotherHost) {
  add(early(remote_span(2, 1)));
  wait(11 * kSecond);
  EXPECT_EQ(only().end, TraceEnd::partial);
}

TEST_F(AssembledTraces, CallsATracePartialIfTheEntryWasNotKept) {
  Assembly assembly({.entries_per_trace = 1});
  assembly.add(span_of(1, 0), early(event_of(1)));
  assembly.wait(2 * kSecond);
  EXPECT_EQ(assembly.only().over_limit, 1U);
  EXPECT_EQ(assembly.only().end, TraceEnd::partial);
}

TEST_F(AssembledTraces, CallsATraceUnfinishedIfItBeganBeforeTheAttachAndItsRootSpanIsMissing) {
  add(early(span_of(2, 1)));
  assembler.finish();
  EXPECT_EQ(only().end, TraceEnd::unfinished);
  EXPECT_TRUE(only().before_attach);
}

TEST_F(AssembledTraces, DoesNotCountAPartialTraceAsHurried) {
  Assembly assembly({.traces = 1});
  assembly.add(early(span_of(1, 0)), in_trace(2, span_of(1, 0)));
  EXPECT_EQ(assembly.only().end, TraceEnd::partial);
  EXPECT_EQ(assembly.assembler.counts().hurried, 0U);
}

TEST_F(AssembledTraces, RemembersThatTheEarlierPartWasPartial) {
  shows = false;
  add(early(span_of(1, 0)));
  wait(2 * kSecond);
  add(span_of(2, 1));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_EQ(seen[1].end, TraceEnd::late);
  EXPECT_TRUE(seen[1].before_attach);
}

TEST_F(AssembledTraces, DoesNotCallARequestPartialBecauseOfALinkedSpan) {
  add(early(linked_span(50, links_to({{trace_number(1), 1}}))), span_of(1, 0));
  wait(3 * kSecond);
  EXPECT_EQ(only().end, TraceEnd::finished);
  EXPECT_THAT(only().linked, SizeIs(1));
}

// ---- Late parts

TEST_F(AssembledTraces, ShowsWhatComesTooLateAsALatePart) {
  add(span_of(1, 0));
  wait(2 * kSecond);
  add(span_of(2, 1), span_of(3, 2));
  wait(2 * kSecond);
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_EQ(seen[1].end, TraceEnd::late);
  EXPECT_TRUE(seen[1].earlier_part_was_shown);
  EXPECT_THAT(seen[1].parents, ElementsAre(Pair(2, 0), Pair(3, 2)));
  EXPECT_EQ(assembler.counts().late, 2U);
  EXPECT_EQ(assembler.counts().late_parts, 1U);
  EXPECT_EQ(assembler.counts().finished, 1U);
}

TEST_F(AssembledTraces, RemembersWhetherTheEarlierPartWasShown) {
  shows = false;
  for (const std::uint64_t id : {1, 2}) {
    add(span_of(id, 0));
    wait(2 * kSecond);
  }
  EXPECT_FALSE(seen[1].earlier_part_was_shown);
}

TEST_F(AssembledTraces, RemembersABoundedNumberOfTraces) {
  Assembly assembly({.remembered = 1});
  for (const std::uint8_t trace : {1, 2, 1}) {
    assembly.add(in_trace(trace, span_of(1, 0)));
    assembly.wait(2 * kSecond);
  }
  EXPECT_EQ(assembly.seen[2].end, TraceEnd::finished) << "as a second trace";
}

// ---- Bounds

TEST_F(AssembledTraces, EvictsTheQuietestWhenThereAreTooMany) {
  Assembly assembly({.traces = 10});
  for (std::uint8_t trace = 1; trace <= 30; ++trace) {
    assembly.add(in_trace(trace, span_of(2, 1)));
    assembly.add(span_of(100U + trace, 99));  // keeps trace 1 the most recently used
    EXPECT_LE(assembly.assembler.open_traces(), 10U);
  }
  EXPECT_THAT(assembly.seen, SizeIs(20));
  EXPECT_EQ(assembly.seen[0].id, trace_number(2));
  for (const Seen& trace : assembly.seen) EXPECT_EQ(trace.end, TraceEnd::evicted);
  EXPECT_EQ(assembly.assembler.counts().evicted, 20U);
  assembly.assembler.finish();
  EXPECT_THAT(assembly.seen, SizeIs(30));
  EXPECT_EQ(assembly.assembler.counts().held, 0U);
}

TEST_F(AssembledTraces, KeepsWithinItsMemory) {
  Assembly assembly({.bytes = 1U << 20U});
  const std::string attributes(4000, 'a');
  for (std::uint32_t i = 0; i < 5000; ++i) {
    Entry entry = span_of(i + 1, i % 7 == 0 ? 0 : 999'999);
    entry.trace_id.bytes[1] = static_cast<unsigned char>(i % 250);
    entry.trace_id.bytes[2] = static_cast<unsigned char>(i / 1000);
    entry.attributes = attributes;
    assembly.add(entry);
    ASSERT_LE(assembly.assembler.bytes(), (1U << 20U) + 10'000U);
  }
  EXPECT_GT(assembly.assembler.counts().evicted + assembly.assembler.counts().hurried, 0U);
  EXPECT_GT(assembly.assembler.counts().held, 0U);
  assembly.assembler.finish();
  EXPECT_EQ(assembly.assembler.counts().held, 0U);
}

TEST_F(AssembledTraces, GivesAllItsMemoryBack) {
  const std::size_t before = assembler.bytes();
  for (std::uint64_t id = 1; id < 1000; ++id) add(span_of(id, id - 1, ""));
  EXPECT_GT(assembler.bytes(), before);
  assembler.finish();
  EXPECT_EQ(assembler.bytes(), before);
}

TEST_F(AssembledTraces, CountsTheMemoryOfTracesThatAreUsedAgain) {
  InternedTexts texts;
  std::vector<std::unique_ptr<Trace>> traces;
  for (int i = 0; i < 100; ++i) traces.push_back(std::make_unique<Trace>(trace_number(1), texts));
  const std::size_t before = mallinfo2().uordblks;
  const std::string foreign_id(3000, 'r');
  const std::string_view links = links_to({{trace_number(2), 1}});
  for (const auto& trace : traces) {
    Entry entry = span_of(1, 0);
    entry.foreign_id = foreign_id;
    trace->add(entry);
    trace->reset(trace_number(2));
    ASSERT_TRUE(trace->add_linked(1, linked_span(2, links), 1, 0));
  }
  std::size_t counted = 0;
  for (const auto& trace : traces) counted += trace->bytes() - sizeof(Trace);
  constexpr std::size_t kOverhead = 200;  // of malloc() and of small lists, for each trace
  EXPECT_LE(mallinfo2().uordblks - before, counted + texts.bytes() + traces.size() * kOverhead);
}

TEST_F(AssembledTraces, HandsOverWhatHasEndedBeforeItEvicts) {
  Assembly assembly({.traces = 1});
  assembly.add(span_of(1, 0), in_trace(2, span_of(1, 0)));
  EXPECT_EQ(assembly.only().end, TraceEnd::finished);
  EXPECT_EQ(assembly.assembler.counts().hurried, 1U);
}

TEST_F(AssembledTraces, BoundsAWideTraceAndCountsTheRest) {
  Assembly assembly({.entries_per_trace = 1000});
  constexpr std::uint64_t kSpans = 100'000;
  for (std::uint64_t id = 3; id < kSpans + 3; ++id) {
    Entry entry = span_of(id, 2);
    if (id % 1000 == 0) entry.status = kError;
    assembly.add(entry);
  }
  assembly.add(span_of(2, 1), span_of(1, 0));
  assembly.wait(2 * kSecond);
  const Seen& trace = assembly.only();
  EXPECT_THAT(trace.parents, SizeIs(1002));
  EXPECT_THAT(trace.roots, ElementsAre(Pair(1, RootKind::request))) << "the parents of kept spans are kept too";
  EXPECT_EQ(trace.over_limit, kSpans - 1000);
  EXPECT_EQ(trace.over_limit_failed, kSpans / 1000 - 1);
}

TEST_F(AssembledTraces, MarksATraceByWhatIsOverItsLimitToo) {
  Assembly assembly({.entries_per_trace = 1}, [](const Entry& entry) { return entry.name == "wanted" ? 2U : 1U; });
  assembly.add(span_of(1, 0), span_of(2, 1, "wanted"));
  assembly.assembler.finish();
  EXPECT_EQ(assembly.seen[0].marks, 3U);
  EXPECT_EQ(assembly.seen[0].over_limit, 1U);
}

TEST_F(AssembledTraces, BoundsTheBytesOfATrace) {
  Assembly assembly({.bytes_per_trace = 100'000});
  const std::string attributes(8000, 'a');
  for (std::uint64_t id = 1; id < 1000; ++id) {
    Entry entry = span_of(id, id == 1 ? 0 : 1);
    entry.attributes = attributes;
    assembly.add(entry);
    ASSERT_LE(assembly.assembler.bytes(), 200'000U);
  }
  assembly.assembler.finish();
  EXPECT_GT(assembly.seen[0].over_limit, 0U);
}

// Of spans that are kept in spite of the limit, because they are parents of others.
TEST_F(AssembledTraces, LeavesOutTheAttributesBeyondTheBytesOfATrace) {
  Assembly assembly({.bytes_per_trace = 100'000});
  const std::string attributes(8000, 'a');
  for (std::uint64_t id = 64; id > 0; --id) {
    Entry entry = span_of(id, id - 1);
    entry.attributes = attributes;
    assembly.add(entry);
    ASSERT_LE(assembly.assembler.bytes(), 150'000U) << id;
  }
  assembly.assembler.finish();
  EXPECT_THAT(assembly.seen[0].roots, ElementsAre(Pair(1, RootKind::request)));
}

// ---- Hostile processes

TEST_F(AssembledTraces, LeavesOutDuplicates) {
  for (int i = 0; i < 3; ++i) {
    add(span_of(1, 0), span_of(2, 1));
  }
  wait(2 * kSecond);
  EXPECT_EQ(only().duplicates, 4U);
  EXPECT_EQ(assembler.counts().assembled, 2U);
}

TEST_F(AssembledTraces, KeepsSpansOfTwoProcessesWithOneIdApart) {
  const ProcessPointer hostile = process_number(666, "hostile");
  Entry forged = of_process(hostile, span_of(2, 1, "forged"));
  Assembly assembly;
  assembly.encodes = true;
  assembly.add(forged, span_of(3, 2, "child"), span_of(2, 1, "true"), span_of(1, 0));
  assembly.wait(2 * kSecond);
  ASSERT_THAT(assembly.seen, SizeIs(1));
  EXPECT_EQ(assembly.seen[0].conflicts, 1U);
  EXPECT_EQ(assembly.seen[0].json["span_count"], 4);
  // Each child belongs to its own process's span.
  std::string above;
  for (const auto& entry : assembly.seen[0].json["spans"]) {
    EXPECT_TRUE(entry["name"] != "child" || above == "true");
    above = entry["name"];
  }
}

TEST_F(AssembledTraces, BreaksCycles) {
  // Span 1 is its own parent. Spans 2, 3 and 4 form a cycle, with 5 below.
  for (const auto& [id, parent] : {std::pair(1, 1), {2, 4}, {3, 2}, {4, 3}, {5, 4}}) {
    add(span_of(static_cast<std::uint64_t>(id), static_cast<std::uint64_t>(parent)));
  }
  assembler.finish();
  EXPECT_EQ(only().cycles, 2U);
  EXPECT_THAT(only().parents, ElementsAre(Pair(1, 0), Pair(2, 0), Pair(3, 2), Pair(4, 3), Pair(5, 4)));
  EXPECT_THAT(only().roots, ElementsAre(Pair(1, RootKind::cycle), Pair(2, RootKind::cycle)));
}

TEST_F(AssembledTraces, TakesAHundredThousandLevels) {
  TraceLimits limits;
  limits.entries_per_trace = 200'000;
  limits.bytes_per_trace = 64U << 20U;
  for (const bool cycle : {false, true}) {
    Assembly assembly(limits);
    constexpr std::uint64_t kLevels = 100'000;
    for (std::uint64_t id = kLevels; id > 0; --id) assembly.add(span_of(id, id == 1 && cycle ? kLevels : id - 1));
    assembly.assembler.finish();
    EXPECT_THAT(assembly.only().parents, SizeIs(kLevels));
    EXPECT_THAT(assembly.only().roots, ElementsAre(Pair(1, cycle ? RootKind::cycle : RootKind::request)));
  }
}

TEST_F(AssembledTraces, TakesTimesThatCannotBe) {
  draws = encodes = true;
  Entry entry = span_of(1, 0);
  entry.start_unix_ns = 0;
  add(entry);
  entry = span_of(2, 1);
  entry.start_unix_ns = UINT64_MAX - 1;
  entry.duration_ns = UINT64_MAX;
  add(entry);
  assembler.finish();
  EXPECT_THAT(seen, SizeIs(1));
}

TEST_F(AssembledTraces, TakesSpansWithoutAnId) {
  for (int i = 0; i < 3; ++i) add(span_of(0, 0));
  assembler.finish();
  EXPECT_EQ(assembler.counts().assembled, 3U);
}

// ---- Random trees, delivered in random order with random losses. The assembled trace must be exactly the tree of the
// delivered spans.

struct Sent {
  Entry entry;
  bool lost = false;
};

class RandomTraces {
 public:
  explicit RandomTraces(unsigned seed) : random_(seed) {}

  std::size_t below(std::size_t bound) { return std::uniform_int_distribution<std::size_t>(0, bound - 1)(random_); }
  bool one_in(std::size_t n) { return below(n) == 0; }

  // A tree over several processes. The parent of a span is a random earlier one.
  std::vector<Sent> trace(std::uint8_t number) {
    std::vector<Sent> sent(1 + below(60));
    for (std::size_t i = 0; i < sent.size(); ++i) {
      Entry& entry = sent[i].entry = span_of(random_() | 1U, 0);
      entry.trace_id = trace_number(number);
      entry.start_unix_ns = kBegin + below(1000);
      entry.process = &processes_[below(processes_.size())];
      if (i == 0) continue;
      const Entry& parent = sent[below(i)].entry;
      entry.parent_id = parent.span_id;
      if (parent.process != entry.process) entry.flags = NOPSPAN_FLAG_REMOTE_PARENT;
    }
    for (Sent& one : sent) one.lost = one_in(5);
    return sent;
  }
  template <class T>
  void shuffle(std::vector<T>& items) {
    std::shuffle(items.begin(), items.end(), random_);
  }

 private:
  std::mt19937_64 random_;
  std::vector<ProcessPointer> processes_ = {process_number(1), process_number(2), process_number(3)};
};

void expect_tree(const Seen& seen, const std::vector<Sent>& sent) {
  std::map<std::uint64_t, std::uint64_t> parents;
  std::map<std::uint64_t, RootKind> roots;
  for (const Sent& one : sent) {
    if (!one.lost) parents[one.entry.span_id] = 0;
  }
  for (const Sent& one : sent) {
    if (one.lost) continue;
    if (parents.contains(one.entry.parent_id)) {
      parents[one.entry.span_id] = one.entry.parent_id;
    } else {
      roots[one.entry.span_id] = one.entry.parent_id == 0 ? RootKind::request
                                 : one.entry.flags != 0   ? RootKind::remote
                                                          : RootKind::missing;
    }
  }
  EXPECT_EQ(seen.parents, parents);
  EXPECT_EQ(seen.roots, roots);
}

TEST(TraceProperty, GivesTheTreeThatIsLeftWhateverTheOrderAndTheLoss) {
  for (unsigned seed = 0; seed < 200; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomTraces random(seed);
    std::vector<std::vector<Sent>> traces;
    std::vector<Entry> delivered;
    for (std::uint8_t number = 0; number < 8; ++number) {
      traces.push_back(random.trace(number));
      for (const Sent& one : traces.back()) {
        if (!one.lost) delivered.push_back(one.entry);
      }
    }
    random.shuffle(delivered);
    Assembly assembly;
    for (const Entry& entry : delivered) {
      assembly.add(entry);
      if (random.one_in(4)) assembly.wait(kMillisecond);
      ASSERT_TRUE(assembly.adds_up());
    }
    assembly.assembler.finish();
    EXPECT_EQ(assembly.assembler.counts().assembled, delivered.size());
    std::size_t whole = 0;
    for (const Seen& seen : assembly.seen) {
      const std::vector<Sent>& sent = traces[seen.id.bytes[0]];
      expect_tree(seen, sent);
      whole += sent[0].lost ? 0 : 1;
      EXPECT_TRUE(sent[0].lost || seen.end == TraceEnd::finished);
    }
    EXPECT_GE(assembly.assembler.counts().finished, whole);
  }
}

}  // namespace
}  // namespace nopspan::collector
