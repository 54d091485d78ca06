// SPDX-License-Identifier: Apache-2.0
// Span: the events that it emits, and when.
#include "recorded.h"

#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <errno.h>
#include <time.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>

namespace {

using nopspan::SpanKind;
using ::testing::MatchesRegex;

static_assert(!std::is_copy_constructible_v<Span> && !std::is_move_constructible_v<Span>);
static_assert(!std::is_copy_assignable_v<Span> && !std::is_move_assignable_v<Span>);

std::int64_t realtime_ns() {
  timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return std::int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

TEST(Span, EmitsStartAndThenStop) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok));
}

TEST(Span, EmitsItsStartWhileItRuns) {
  const SpanRecorder recorder("work");
  const Span span{"work"};
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
}

TEST(Span, MeasuresBothClocksAtItsStartAndNothingElse) {
  const SpanRecorder recorder("work");
  const std::int64_t before = realtime_ns();
  { const Span span{"work"}; }
  const std::int64_t after = realtime_ns();
  EXPECT_THAT(keys_of(recorder.start()->measurements()), ElementsAre("monotonic_time", "system_time"));
  EXPECT_GE(recorder.start()->system_time_ns(), before);
  EXPECT_LE(recorder.start()->system_time_ns(), after);
}

TEST(Span, MeasuresDurationAndTheMonotonicClockAtItsEndAndNothingElse) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("duration", "monotonic_time"));
  EXPECT_EQ(recorder.stop()->duration_ns(),
            recorder.stop()->monotonic_time_ns() - recorder.start()->monotonic_time_ns());
}

TEST(Span, TellsItsIdsAsMetadata) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  for (const auto& event : recorder.events()) {
    EXPECT_THAT(keys_of(event->metadata()), ElementsAre("parent_id", "request_id", "span_id"));
    EXPECT_THAT(event, HasMetadata("request_id", std::string(event->request_id())));
    EXPECT_THAT(std::string(event->metadata("span_id").as_string()), MatchesRegex("[0-9a-f]{16}"));
    EXPECT_TRUE(event->metadata("parent_id").exists());
    EXPECT_TRUE(event->metadata("parent_id").is_null());
  }
}

TEST(Span, KeepsTheApplicationsOwnMetadataOfAnIdsName) {
  const SpanRecorder recorder("work");
  short_span("work", [](Fields& f) { f.set("request_id", "mine").set("span_id", 7); });
  EXPECT_THAT(recorder.start(), AllOf(HasMetadata("request_id", "mine"), HasMetadata("span_id", 7)));
  EXPECT_THAT(recorder.stop(), HasMetadata("request_id", "mine"));
}

TEST(Span, MergesStopMetadataOverTheStarts) {
  const SpanRecorder recorder("work");
  Span{"work", [](Fields& f) { f.set("kept", 1).set("replaced", "by start").set("last", true); }}
      .set("replaced", "by stop")
      .set("added", 2.5);
  EXPECT_THAT(recorder.start(), AllOf(HasMetadata("replaced", "by start"), LacksMetadata("added")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("kept", 1), HasMetadata("replaced", "by stop")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("last", true), HasMetadata("added", 2.5)));
}

TEST(Span, MergesShallowly) {
  const SpanRecorder recorder("work");
  Span{"work", [](Fields& f) { f.set("map", Value::map({{"a", 1}, {"b", 2}})); }}.set("map", Value::map({{"c", 3}}));
  EXPECT_THAT(recorder.stop(), HasMetadata("map", Value::map({{"c", 3}})));
}

TEST(Span, PutsAMeasurementGivenAtTheStartOnTheStartOnly) {
  const SpanRecorder recorder("work");
  short_span("work", [](Fields& f) { f.measure("queue_depth", 3); });
  EXPECT_THAT(recorder.start(), HasMeasurement("queue_depth", 3));
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("duration", "monotonic_time"));
}

TEST(Span, PutsAMeasurementGivenAtTheStartOnNothingIfOnlyTheStopIsHandled) {
  const Recorder recorder{"work.stop"};
  short_span("work", [](Fields& f) { f.measure("queue_depth", 3); });
  EXPECT_THAT(keys_of(recorder.events().at(0)->measurements()), ElementsAre("duration", "monotonic_time"));
}

TEST(Span, AddsMeasurementsGivenLaterToTheStop) {
  const SpanRecorder recorder("work");
  Span{"work"}.measure("rows", 3).measure("ratio", 0.5);
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("duration", "monotonic_time", "ratio", "rows"));
  EXPECT_THAT(recorder.stop(), AllOf(HasMeasurement("rows", 3), HasMeasurement("ratio", 0.5)));
}

TEST(Span, DoesNotLetMeasurementsReplaceItsOwn) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  Span{"work", [](Fields& f) { f.measure("system_time", 1).measure("monotonic_time", 1); }}
      .measure("duration", -5)
      .measure("monotonic_time", 1.5);
  EXPECT_EQ(dropped.times(), 4U);
  EXPECT_GT(recorder.start()->system_time_ns(), 1);
  EXPECT_GT(recorder.start()->monotonic_time_ns(), 1);
  EXPECT_GE(recorder.stop()->duration_ns(), 0);
  EXPECT_EQ(recorder.stop()->measurement("monotonic_time").type(), Value::Type::integer);
}

TEST(Span, AllowsMetadataOfAMeasurementsName) {
  const SpanRecorder recorder("work");
  Span{"work"}.set("duration", "long").set("rows", "many").measure("rows", 3);
  EXPECT_THAT(recorder.stop(), HasMetadata("duration", "long"));
  EXPECT_GE(recorder.stop()->duration_ns(), 0);
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("rows", "many"), HasMeasurement("rows", 3)));
}

TEST(Span, EvaluatesNothingWhenTheGateIsDown) {
  bool called = false;
  Span span{"work", [&](Fields&) { called = true; }};
  span.with([&](Fields&) { called = true; });
  span.set("key", 1).measure("number", 1);
  span.fail("type");
  EXPECT_FALSE(called);
  EXPECT_FALSE(span);
  EXPECT_EQ(span.context().span_id(), 0U);
}

TEST(Span, CallsItsMetadataOnceWhenTheGateIsRaised) {
  const SpanRecorder recorder("work");
  int at_start = 0;
  int later = 0;
  {
    Span span{"work", [&](Fields&) { ++at_start; }};
    EXPECT_TRUE(span);
    span.with([&](Fields&) { ++later; });
  }
  EXPECT_EQ(at_start, 1);
  EXPECT_EQ(later, 1);
}

TEST(Span, TakesTheTypesAsTheyAre) {
  const SpanRecorder recorder("work");
  {
    Span span{"work"};
    span.set("null", nullptr).set("bool", true).set("integer", 1).set("double", 1.0).set("string", "s");
    span.set("char array", std::string("t")).set("short", short{2}).set("unsigned", 3U).set("float", 0.5F);
    span.set("list", Value::list({1, 1.0, "x", nullptr}));
  }
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("null", nullptr), HasMetadata("bool", true)));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("integer", 1), HasMetadata("double", 1.0)));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("string", "s"), HasMetadata("char array", "t")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("short", 2), HasMetadata("unsigned", 3), HasMetadata("float", 0.5)));
  EXPECT_THAT(recorder.stop(), HasMetadata("list", Value::list({1, 1.0, "x", nullptr})));
}

TEST(Span, CopiesTheStringsItIsGiven) {
  const SpanRecorder recorder("work");
  {
    Span span{"work"};
    std::string key = "a key";
    std::string text = "a text that is too long for the small string optimisation of any library";
    span.set(key, text);
    key.assign(key.size(), 'x');
    text.assign(text.size(), 'x');
  }
  EXPECT_THAT(recorder.stop(),
              HasMetadata("a key", "a text that is too long for the small string optimisation of any library"));
}

TEST(Span, NestsUnderTheSpanAroundIt) {
  const Recorder recorder{"outer.start", "middle.start", "inner.start"};
  {
    const Span outer{"outer"};
    const Span middle{"middle"};
    const Span inner{"inner"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[0]->parent_id(), 0U);
  EXPECT_EQ(events[0]->context().root_id(), events[0]->span_id());
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_THAT(events[2], IsChildOf(events[1]));
  EXPECT_EQ(events[2]->context().root_id(), events[0]->span_id());
}

TEST(Span, GivesThePlaceBackToTheSpanAroundItWhenItEnds) {
  const Recorder recorder{"outer.start", "first.start", "second.start"};
  {
    const Span outer{"outer"};
    { const Span first{"first"}; }
    EXPECT_EQ(Context::current().span_id(), id_of(outer));
    const Span second{"second"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[2], IsChildOf(events[0]));
}

TEST(Span, BeginsANewRequestEachTimeItIsOutermost) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  { const Span span{"work"}; }
  const auto starts = events_of(recorder, 2, "work.start");
  EXPECT_NE(starts[0]->request_id(), starts[1]->request_id());
  EXPECT_NE(starts[0]->span_id(), starts[1]->span_id());
}

TEST(Span, MayEndBeforeASpanInsideIt) {
  const Recorder recorder{"outer.stop", "inner.stop", "after.start"};
  const Counted left(&nopspan::Stats::scopes_left);
  std::optional<Span> outer;
  std::optional<Span> inner;
  outer.emplace("outer");
  inner.emplace("inner");
  outer.reset();
  EXPECT_EQ(left.times(), 1U);
  EXPECT_TRUE(Context::current().empty());  // the inner span is open, but no longer current
  inner.reset();
  EXPECT_TRUE(Context::current().empty());
  EXPECT_THAT(recorder.names(), ElementsAre("outer.stop", "inner.stop"));
}

TEST(Span, CountsMetadataThatThrowsAndGoesOn) {
  const SpanRecorder recorder("work");
  const Counted failures(&nopspan::Stats::metadata_failures);
  {
    Span span{"work", [](Fields& f) {
                f.set("before", 1);
                throw std::runtime_error("metadata");
              }};
    span.with([](Fields&) { throw 5; });
    EXPECT_TRUE(span);
  }
  EXPECT_EQ(failures.times(), 2U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.start(), HasMetadata("before", 1));
}

TEST(Span, CarriesItsKindInTheFlags) {
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  { const Span span{"work", {SpanKind::server}}; }
  {
    const Span span{"work", {SpanKind::client}, [](Fields&) {}};
  }
  const auto kind = [](const nopspan::OwnedEvent& event) {
    return (event->flags() & NOPSPAN_FLAG_KIND_MASK) >> NOPSPAN_FLAG_KIND_SHIFT;
  };
  const auto stops = events_of(recorder, 3, "work.stop");
  EXPECT_EQ(kind(stops[0]), static_cast<unsigned>(SpanKind::internal));
  EXPECT_EQ(kind(stops[1]), static_cast<unsigned>(SpanKind::server));
  EXPECT_EQ(kind(stops[2]), static_cast<unsigned>(SpanKind::client));
}

TEST(Span, EndsQuietlyIfTheHandlerWasDetachedMeanwhile) {
  std::optional<SpanRecorder> recorder(std::in_place, "work");
  Span span{"work"};
  span.set("key", std::string(2000, 'x'));
  recorder.reset();
}

TEST(Span, LeavesErrnoAlone) {
  attach_ok("id", "work.stop", [](const nopspan::Event&) { errno = EINVAL; });
  errno = ENOENT;
  std::thread([] {
    errno = ENOENT;
    { const Span span{"work"}; }
    EXPECT_EQ(errno, ENOENT);
  }).join();
  { const Span span{"work"}; }
  EXPECT_EQ(errno, ENOENT);
  detach_ok("id");
}

TEST(Span, EmitsNothingForAHandlerAttachedAfterItsStart) {
  std::optional<Span> span(std::in_place, "work");
  const SpanRecorder recorder("work");
  span.reset();
  EXPECT_EQ(recorder.size(), 0U);
}

}  // namespace
