// SPDX-License-Identifier: Apache-2.0
// Spans whose start and end times the application supplies.
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/engine.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <cstdint>
#include <optional>
#include <stdexcept>

namespace {

using nopspan::SpanKind;

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST(GivenTimes, BeginASpanInThePast) {
  const SpanRecorder recorder("work");
  const std::uint64_t start = monotonic_ns() - kSecond;
  { const Span span{"work", {SpanKind::internal, start}}; }
  EXPECT_EQ(recorder.start()->monotonic_time_ns(), static_cast<std::int64_t>(start));
  EXPECT_GE(recorder.stop()->duration_ns(), static_cast<std::int64_t>(kSecond));
  EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST(GivenTimes, MoveTheSystemTimeToo) {
  const SpanRecorder recorder("work");
  { const Span now{"work"}; }
  { const Span past{"work", {SpanKind::internal, monotonic_ns() - kSecond}}; }
  const auto starts = events_of(recorder, 2, "work.start");
  EXPECT_LT(starts[1]->system_time_ns(), starts[0]->system_time_ns());
}

TEST(GivenTimes, EndASpanEarlierThanItsScope) {
  const SpanRecorder recorder("work");
  std::uint64_t start = 0;
  {
    Span span{"work"};
    start = static_cast<std::uint64_t>(recorder.start()->monotonic_time_ns());
    span.end_at(start + 5);
  }
  EXPECT_EQ(recorder.stop()->duration_ns(), 5);
  EXPECT_EQ(recorder.stop()->monotonic_time_ns(), static_cast<std::int64_t>(start + 5));
}

TEST(GivenTimes, OfASpanThatEndsOnAnotherThreadAreFlaggedToo) {
  const SpanRecorder recorder("work");
  std::optional<Span> span(std::in_place, "work");
  span->end_at(static_cast<std::uint64_t>(recorder.start()->monotonic_time_ns()) + 5);
  in_thread([&] { span.reset(); });
  EXPECT_EQ(recorder.stop()->duration_ns(), 5);
  EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST(GivenTimes, BeforeTheStartCountAsTheStart) {
  const SpanRecorder recorder("work");
  AsyncSpan span{"work"};
  span.end_at(1);
  span.end();
  EXPECT_EQ(recorder.stop()->duration_ns(), 0);
  EXPECT_EQ(recorder.stop()->monotonic_time_ns(), recorder.start()->monotonic_time_ns());
}

TEST(GivenTimes, AreNotFlaggedWhereThereAreNone) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  EXPECT_EQ(recorder.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST(Complete, EmitsStartAndStopAtOnceWithTheTimesGiven) {
  const Recorder recorder{"engine.request.start", "engine.queue.start", "engine.queue.stop"};
  const AsyncSpan request{nopspan::engine::request};
  nopspan::complete(nopspan::engine::queue, request.context(), 1000, 250, [](Fields& f) { f.set("slot", 3); });
  const auto events = recorder.events();
  ASSERT_THAT(recorder.names(), ElementsAre("engine.request.start", "engine.queue.start", "engine.queue.stop"));
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_EQ(events[1]->monotonic_time_ns(), 1000);
  EXPECT_EQ(events[2]->monotonic_time_ns(), 1250);
  EXPECT_EQ(events[2]->duration_ns(), 250);
  EXPECT_THAT(events[1], HasMetadata("slot", 3));
  EXPECT_THAT(events[2], AllOf(HasMetadata("slot", 3), HasStatus(Status::ok)));
}

TEST(Complete, KeepsItsMeasurementsForTheStop) {
  const SpanRecorder recorder("work");
  nopspan::complete("work", Context(), 1000, 250, [](Fields& f) { f.measure("tokens", 7); });
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("duration", "monotonic_time", "tokens"));
}

TEST(Complete, NeedsNoFields) {
  const SpanRecorder recorder("work");
  nopspan::complete("work", Context(), 1000, 0);
  ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_EQ(recorder.stop()->duration_ns(), 0);
}

TEST(Complete, DoesNotTouchTheCurrentContext) {
  const SpanRecorder recorder("work");
  nopspan::complete("work", Context(), 1000, 1, [](Fields&) { EXPECT_TRUE(Context::current().empty()); });
  EXPECT_TRUE(Context::current().empty());
}

TEST(Complete, EvaluatesNothingWhenTheGateIsDown) {
  bool called = false;
  nopspan::complete("work", Context(), 1000, 1, [&](Fields&) { called = true; });
  EXPECT_FALSE(called);
}

TEST(Complete, GoesOnWhenTheFieldsThrow) {
  const SpanRecorder recorder("work");
  nopspan::complete("work", Context(), 1000, 1, [](Fields&) { throw std::runtime_error(""); });
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
}

}  // namespace
