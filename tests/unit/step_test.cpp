// SPDX-License-Identifier: Apache-2.0
// Steps of an engine as handlers see them, and their members. batch_test.cpp and step_record_test.cpp test what tracers
// see.
#include "in_child.h"
#include "no_memory.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/engine.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace {

using nopspan::engine::Member;
using nopspan::engine::StepFields;
using nopspan::engine::StepKind;

std::vector<Member> decoding(std::size_t count) {
  std::vector<Member> members(count);
  for (std::size_t i = 0; i < count; ++i) {
    members[i].request = i + 1;
    members[i].decode_tokens = 1;
  }
  return members;
}

TEST(Member, NamesARecordedSpanByItsIdAndAnyOtherByTheKeyOfTheEngine) {
  const AsyncSpan unrecorded{nopspan::engine::request};
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);
  EXPECT_EQ(Member::of(unrecorded, 3).flags, Member::kOwnKey);
  EXPECT_EQ(Member::of(Context(), 4).request, 4U);
  EXPECT_EQ(Member::of(Context::make(), 5).request, 5U);
  const SpanRecorder recorder("engine.request");
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);
  const AsyncSpan recorded{nopspan::engine::request};
  EXPECT_EQ(Member::of(recorded, 3).request, id_of(recorded));
  EXPECT_EQ(Member::of(recorded, 3).flags, 0U);
  EXPECT_EQ(Member::of(recorded.context(), 3).request, id_of(recorded));
  const Span around{"engine.loop"};
  EXPECT_EQ(Member::of(unrecorded, 3).request, 3U);  // not the span around it
}

TEST(Member, NamesARequestOfAnotherProcessByItsTrace) {
  const Context remote = Context::from_traceparent("00-0123456789abcdef0123456789abcdef-00000000000000ab-01");
  const std::uint64_t key = __builtin_bswap64(0x0123456789abcdef);  // the bytes as they are in memory
  for (const Member& member : {Member::of(remote, 6), Member::of_trace(remote, 6)}) {
    EXPECT_EQ(member.request, key);
    EXPECT_EQ(member.flags, Member::kOwnKey | Member::kTraceKey);
  }
  const SpanRecorder recorder("engine.prefill");
  const AsyncSpan phase{nopspan::engine::prefill, remote};
  EXPECT_EQ(Member::of(phase, 6).request, id_of(phase)) << "a span of this process";
  EXPECT_EQ(Member::of_trace(phase, 6).request, key);
  EXPECT_EQ(Member::of_trace(Context(), 6).request, 6U);
  EXPECT_EQ(Member::of_trace(Context(), 6).flags, Member::kOwnKey);
}

TEST(Step, HasItsFactsAndMembersInTheStopEvent) {
  const SpanRecorder recorder("engine.step");
  std::vector<Member> members = decoding(3);
  members[2].prefill_tokens = 9;
  Span{nopspan::engine::step, [](auto& m) { m.instance(2).number(8); }}.with<StepFields>(
      [&](auto& m) { m.members(members.data(), members.size()).budget_tokens(64); });
  EXPECT_EQ(recorder.start()->step(), nullptr);
  EXPECT_EQ(recorder.start()->member_count(), 0U);
  const auto stop = recorder.stop();  // an OwnedEvent
  ASSERT_NE(stop->step(), nullptr);
  EXPECT_EQ(stop->step()->kind, StepKind::mixed);
  EXPECT_EQ(stop->step()->instance, 2U);
  EXPECT_EQ(stop->step()->number, 8U);
  EXPECT_EQ(stop->step()->decode_tokens, 3U);
  EXPECT_EQ(stop->step()->prefill_tokens, 9U);
  EXPECT_EQ(stop->step()->budget_tokens, 64U);
  EXPECT_EQ(stop->step()->batch_size, 3U);
  ASSERT_EQ(stop->member_count(), 3U);
  EXPECT_EQ(stop->members()[0].request, 3U);
  EXPECT_EQ(stop->members()[1].request, 1U);
  EXPECT_NE(stop->flags() & NOPSPAN_FLAG_STEP, 0U);
}

TEST(Step, IsCopiedWithItsMembers) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(1000);
  short_span(nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()); });
  nopspan::OwnedEvent stop = recorder.stop();
  const nopspan::OwnedEvent copy = stop;
  const nopspan::OwnedEvent moved = std::move(stop);
  for (const auto* event : {&copy, &moved}) {
    ASSERT_EQ((*event)->member_count(), 1000U);
    EXPECT_EQ((*event)->members()[999].request, 1000U);
    EXPECT_EQ((*event)->step()->decode_tokens, 1000U);
  }
  EXPECT_EQ(stop->step(), nullptr);  // NOLINT(bugprone-use-after-move,hicpp-invalid-access-moved)
  EXPECT_EQ(stop->member_count(), 0U);
}

TEST(Step, HasAKindThatFollowsFromItsMembersOrItsTokens) {
  const auto kind_with = [&](auto&& fields) {
    const SpanRecorder recorder("engine.step");
    { const Span step{nopspan::engine::step, fields}; }
    return recorder.stop()->step()->kind;
  };
  std::vector<Member> members = decoding(2);
  const auto add = [&](auto& m) { m.members(members.data(), members.size()); };
  EXPECT_EQ(kind_with([](auto&) {}), StepKind::unknown);
  EXPECT_EQ(kind_with([](auto& m) { m.prefill_tokens(1); }), StepKind::prefill);
  EXPECT_EQ(kind_with([](auto& m) { m.decode_tokens(1); }), StepKind::decode);
  EXPECT_EQ(kind_with([](auto& m) { m.prefill_tokens(1).decode_tokens(1); }), StepKind::mixed);
  EXPECT_EQ(kind_with(add), StepKind::decode);
  members[0].prefill_tokens = 4;
  EXPECT_EQ(kind_with(add), StepKind::mixed);
  members[1].prefill_tokens = 4;  // the pass generates the first token too
  EXPECT_EQ(kind_with(add), StepKind::prefill);
}

TEST(Step, TakesANegativeCountForAbsentAndCountsIt) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(2);
  const Counted clamped(&nopspan::Stats::values_clamped);
  short_span(nopspan::engine::step, [&](auto& m) {
    m.members(members.data(), members.size()).batch_size(-1).drafted_tokens(-1);
    m.prefill_tokens(7).prefill_tokens(-1).decode_tokens(-1);
  });
  EXPECT_EQ(clamped.times(), 4U);
  EXPECT_EQ(recorder.stop()->step()->batch_size, 2U);
  EXPECT_EQ(recorder.stop()->step()->prefill_tokens, 0U);
  EXPECT_EQ(recorder.stop()->step()->decode_tokens, 2U);
}

TEST(Step, ThatIsCompleteHasMembersToo) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(2);
  nopspan::complete(nopspan::engine::step, {}, nopspan::now_ns() - 1000, 500,
                    [&](auto& m) { m.members(members.data(), members.size()); });
  EXPECT_EQ(recorder.stop()->member_count(), 2U);
}

TEST(Step, AloneHasMembers) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::members_dropped);
  const std::vector<Member> members = decoding(2);
  Span{"work"}.with<StepFields>([&](auto& m) { m.members(members.data(), members.size()); });
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_EQ(recorder.stop()->step(), nullptr);
}

TEST(Step, WithoutMemoryCountsTheMembersThatItDropped) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "the sanitizers end a program without memory";
  expect_in_child([] {
    const SpanRecorder recorder("engine.step");
    const std::vector<Member> members = decoding(300);
    std::optional<Span> some(std::in_place, nopspan::engine::step, [&](auto& m) { m.members(members.data(), 100); });
    std::optional<Span> none(std::in_place, nopspan::engine::step);
    {
      const Counted dropped(&nopspan::Stats::members_dropped);
      const NoMemory here;
      some->with<StepFields>([&](auto& m) { m.members(members.data() + 100, 200); });
      none->with<StepFields>([&](auto& m) { m.members(members.data(), 300); });
      EXPECT_GT(dropped.times(), 300U);
    }
    none.reset();
    some.reset();
    const auto stops = events_of(recorder, 2, "engine.step.stop");
    EXPECT_EQ(stops[0]->member_count(), 0U);
    EXPECT_EQ(stops[0]->step()->dropped, 300U);
    EXPECT_EQ(stops[0]->step()->batch_size, 300U);
    EXPECT_GE(stops[1]->member_count(), 100U);
    EXPECT_GT(stops[1]->step()->dropped, 0U);
    EXPECT_EQ(stops[1]->member_count() + stops[1]->step()->dropped, 300U);
  });
}

TEST(Step, ThatAForkInterruptsIsReportedByTheParentOnly) {
  const SpanRecorder recorder("engine.step");
  const std::vector<Member> members = decoding(1024);
  {
    Span step{nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()); }};
    expect_in_child([&] {
      step.with<StepFields>([&](auto& m) { m.members(members.data(), members.size()); });
      short_span(nopspan::engine::step, [&](auto& m) { m.member(members[5]); });
      ASSERT_EQ(recorder.stop()->member_count(), 1U);
      EXPECT_EQ(recorder.stop()->members()[0].request, 6U);
    });
  }
  EXPECT_EQ(recorder.stop()->member_count(), 1024U);
}

TEST(Step, IsNotComputedWhenTheGateIsDown) {
  const Span step{nopspan::engine::step, [](auto&) { FAIL(); }};
}

}  // namespace
