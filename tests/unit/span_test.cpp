// SPDX-License-Identifier: Apache-2.0
// Spans and async spans, and their links.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/engine.h>
#include <nopspan/probes.h>

#include <errno.h>
#include <time.h>

#include <optional>
#include <thread>
#include <type_traits>

namespace {

// ---- Span: the events that it emits, and when.

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
  {
    const Span span{"work"};
    EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  }
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok));
}

TEST(Span, MeasuresItsTimesAtItsStartAndItsEndAndNothingElse) {
  const SpanRecorder recorder("work");
  const std::int64_t before = realtime_ns();
  { const Span span{"work"}; }
  const std::int64_t after = realtime_ns();
  EXPECT_THAT(keys_of(recorder.start()->measurements()), ElementsAre("monotonic_time", "system_time"));
  EXPECT_GE(recorder.start()->system_time_ns(), before);
  EXPECT_LE(recorder.start()->system_time_ns(), after);
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
  Span{"work",
       [](Fields& f) {
         f.set("kept", 1).set("replaced", "by start").set("last", true).set("map", Value::map({{"a", 1}, {"b", 2}}));
       }}
      .set("replaced", "by stop")
      .set("added", 2.5)
      .set("map", Value::map({{"c", 3}}));
  EXPECT_THAT(recorder.start(), AllOf(HasMetadata("replaced", "by start"), LacksMetadata("added")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("kept", 1), HasMetadata("replaced", "by stop")));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("last", true), HasMetadata("added", 2.5)));
  EXPECT_THAT(recorder.stop(), HasMetadata("map", Value::map({{"c", 3}}))) << "not merged";
}

TEST(Span, PutsAMeasurementGivenAtTheStartOnTheStartOnlyIfThatIsHandled) {
  for (const bool with_start : {true, false}) {
    const Recorder recorder{with_start ? "work.start" : "other", "work.stop"};
    short_span("work", [](Fields& f) { f.measure("queue_depth", 3); });
    const auto events = events_of(recorder, with_start ? 2 : 1);
    if (with_start) {
      EXPECT_THAT(events[0], HasMeasurement("queue_depth", 3));
    }
    EXPECT_THAT(keys_of(events.back()->measurements()), ElementsAre("duration", "monotonic_time"));
  }
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
  for (const std::size_t i : {1U, 2U}) {
    EXPECT_THAT(events[i], HasMetadata("parent_id", events[i - 1]->metadata("span_id").as_string()));
  }
  EXPECT_EQ(events[2]->context().root_id(), events[0]->span_id());
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

TEST(Span, EndsQuietlyIfTheHandlerWasDetachedOrAttachedMeanwhile) {
  std::optional<Span> span(std::in_place, "work");
  std::optional<SpanRecorder> detached(std::in_place, "work");
  Span other{"work"};
  other.set("key", std::string(2000, 'x'));
  detached.reset();
  const SpanRecorder recorder("work");
  span.reset();
  EXPECT_EQ(recorder.size(), 0U);
}

// ---- AsyncSpan, which may end on any thread.

static_assert(sizeof(AsyncSpan) == 8);
static_assert(!std::is_copy_constructible_v<AsyncSpan> && std::is_nothrow_move_constructible_v<AsyncSpan>);
static_assert(!std::is_copy_assignable_v<AsyncSpan> && std::is_nothrow_move_assignable_v<AsyncSpan>);
static_assert(std::is_nothrow_default_constructible_v<AsyncSpan>);

TEST(AsyncSpan, IsEmptyByDefaultAndTakesEveryCall) {
  AsyncSpan span;
  EXPECT_FALSE(span);
  span.set("key", 1).measure("number", 1).with([](Fields&) { FAIL(); });
  span.first_token();
  span.link(Context::make());
  span.end_at(1);
  span.end();
  span.fail("type");
  span.cancel();
  EXPECT_TRUE(span.context().empty());
  EXPECT_TRUE(span.request_id().empty());
}

TEST(AsyncSpan, EmitsStartAndStop) {
  const SpanRecorder recorder("work");
  AsyncSpan span{"work", Context(), [](Fields& f) { f.set("at", "start"); }};
  EXPECT_TRUE(span);
  span.set("key", 1).measure("rows", 2).with([](Fields& f) { f.set("at", "end"); });
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  span.end();
  EXPECT_FALSE(span);
  span.end();
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.start(), HasMetadata("at", "start"));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("at", "end"), HasMetadata("key", 1), HasMeasurement("rows", 2)));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::ok), LacksMetadata("abandoned")));
}

TEST(AsyncSpan, SaysThatItIsBoundToNoThread) {
  const SpanRecorder async("work");
  AsyncSpan{"work"}.end();
  EXPECT_NE(async.start()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
  EXPECT_NE(async.stop()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
  const SpanRecorder scope("scope");
  { const nopspan::Span span{"scope"}; }
  EXPECT_EQ(scope.stop()->flags() & NOPSPAN_FLAG_ASYNC, 0U);
}

TEST(AsyncSpan, EvaluatesNothingWhenTheGateIsDown) {
  bool called = false;
  AsyncSpan span{"work", Context(), [&](Fields&) { called = true; }};
  span.with([&](Fields&) { called = true; });
  span.end();
  EXPECT_FALSE(called);
}

TEST(AsyncSpan, BeginsARequestOfItsOwnUnlessItIsGivenAParent) {
  const Recorder recorder{"outer.start", "alone.start", "child.start"};
  const Span outer{"outer"};
  const AsyncSpan alone{"alone"};
  EXPECT_EQ(Context::current().span_id(), id_of(outer)) << "an AsyncSpan never becomes current";
  const AsyncSpan child{"child", Context::current()};
  const auto events = events_of(recorder, 3);
  EXPECT_NE(events[1]->request_id(), events[0]->request_id());
  EXPECT_EQ(events[1]->parent_id(), 0U);
  EXPECT_THAT(events[2], IsChildOf(events[0]));
}

TEST(AsyncSpan, HasChildrenByItsContext) {
  const Recorder recorder{"outer.start", "async.start", "scope.start"};
  const AsyncSpan outer{"outer"};
  const AsyncSpan async{"async", outer.context()};
  {
    const ContextScope here{async.context()};
    const Span scope{"scope"};
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_THAT(events[2], IsChildOf(events[1]));
  EXPECT_EQ(events[2]->context().root_id(), events[0]->span_id());
  EXPECT_EQ(outer.request_id().view(), events[0]->request_id());
}

TEST(AsyncSpan, MovesWithoutAnEvent) {
  const SpanRecorder recorder("work");
  AsyncSpan first{"work"};
  AsyncSpan second = std::move(first);
  EXPECT_FALSE(first);  // NOLINT(bugprone-use-after-move): it is empty
  EXPECT_TRUE(second);
  first = std::move(second);
  AsyncSpan& same = first;
  first = std::move(same);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start"));
  first.end();
  second.end();  // NOLINT(bugprone-use-after-move): it is empty
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok));
}

TEST(AsyncSpan, IsAbandonedWhenDestroyedUnended) {
  const SpanRecorder recorder("work");
  const Counted abandoned(&nopspan::Stats::abandoned);
  { const AsyncSpan span{"work"}; }
  EXPECT_EQ(abandoned.times(), 1U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::cancelled), HasMetadata("abandoned", true)));
  EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_ABANDONED, 0U);
}

TEST(AsyncSpan, IsAbandonedWhenAssignedOver) {
  const Recorder recorder{"first.stop", "second.stop"};
  AsyncSpan span{"first"};
  span = AsyncSpan{"second"};
  EXPECT_THAT(recorder.names(), ElementsAre("first.stop"));
  EXPECT_THAT(recorder.events()[0], HasMetadata("abandoned", true));
  span.end();
  ASSERT_THAT(recorder.names(), ElementsAre("first.stop", "second.stop"));
  EXPECT_THAT(recorder.events()[1], HasStatus(Status::ok));
}

TEST(AsyncSpan, IsEndedByAnExceptionThatDestroysIt) {
  const SpanRecorder recorder("work");
  const Counted abandoned(&nopspan::Stats::abandoned);
  try {
    const AsyncSpan span{"work"};
    throw std::runtime_error("not seen");
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(abandoned.times(), 0U);
  EXPECT_THAT(recorder.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder.exception(), AllOf(HasStatus(Status::exception), HasMetadata("kind", "error")));
  EXPECT_EQ(recorder.exception()->metadata("reason").find("type").as_string(), "unknown");
  EXPECT_THAT(recorder.exception(), LacksMetadata("abandoned"));
  EXPECT_EQ(recorder.exception()->flags() & NOPSPAN_FLAG_ABANDONED, 0U);
}

TEST(AsyncSpan, IsAbandonedInADestructorThatRunsDuringUnwinding) {
  const SpanRecorder recorder("work");
  struct Cleaner {
    ~Cleaner() { const AsyncSpan span{"work"}; }
  };
  try {
    const Cleaner cleaner;
    throw 7;
  } catch (int) {
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

TEST(AsyncSpan, IsAbandonedIfItIsDestroyedAfterTheExceptionWasCaught) {
  const SpanRecorder recorder("work");
  {
    const AsyncSpan span{"work"};
    try {
      throw 7;
    } catch (int) {
    }
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
}

TEST(AsyncSpan, IsEndedByAnExceptionOfTheThreadThatItWasMovedTo) {
  const SpanRecorder recorder("work");
  struct Cleaner {
    AsyncSpan* span;
    ~Cleaner() { *span = AsyncSpan{"work"}; }  // begins while an exception is in flight on this thread
  };
  AsyncSpan span;
  try {
    const Cleaner cleaner{&span};  // NOLINT(clang-analyzer-deadcode.DeadStores): for its destructor
    throw 7;
  } catch (int) {
  }
  std::thread([&span] {
    try {
      const AsyncSpan here = std::move(span);
      throw 7;
    } catch (int) {
    }
  }).join();
  EXPECT_THAT(recorder.exception(), HasStatus(Status::exception));
}

TEST(AsyncSpan, EndsOnAnotherThreadThanTheOneThatMadeIt) {
  const SpanRecorder recorder("work");
  AsyncSpan span;
  std::thread([&] { span = AsyncSpan{"work"}; }).join();
  std::thread([moved = std::move(span)]() mutable {
    moved.set("there", true);
    moved.end();
  }).join();
  ASSERT_THAT(recorder.names(), ElementsAre("work.start", "work.stop"));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("there", true), HasStatus(Status::ok)));
  EXPECT_EQ(recorder.stop()->span_id(), recorder.start()->span_id());
}

// ---- Links: one span that serves many requests.

std::string trace_id(const Event::Link& link) {
  constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : link.trace_id) {
    text += kDigits[byte >> 4U];
    text += kDigits[byte & 15U];
  }
  return text;
}

TEST(Link, NamesTraceAndSpan) {
  const SpanRecorder recorder("work");
  const AsyncSpan other{"other"};
  const Context request = Context::make();
  Span{"work", [&](Fields& f) { f.link(other.context()); }}.link(request).link(Context());
  ASSERT_EQ(recorder.start()->link_count(), 1U);
  const nopspan::OwnedEvent stop = recorder.stop();
  ASSERT_EQ(stop->link_count(), 2U);
  EXPECT_EQ(trace_id(stop->links()[0]), other.context().trace_id().view());
  EXPECT_EQ(stop->links()[0].span_id, id_of(other));
  EXPECT_EQ(trace_id(stop->links()[1]), request.trace_id().view());
  EXPECT_EQ(stop->links()[1].span_id, 0U);
}

TEST(Link, IsBoundedTo128AndCountedBeyond) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::links_dropped);
  const std::vector<Context> requests(130, Context::make());
  {
    Span span{"work"};
    for (std::size_t i = 0; i < 128; ++i) span.link(requests[i]);
    EXPECT_EQ(dropped.times(), 0U);
    span.link(requests[128]);
    span.link(requests[129]);
  }
  { const Span span{"work"}; }
  EXPECT_EQ(dropped.times(), 2U);
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_EQ(stops[0]->link_count(), 128U);
  EXPECT_NE(stops[0]->flags() & NOPSPAN_FLAG_LINKS_DROPPED, 0U);
  EXPECT_EQ(stops[1]->link_count(), 0U);  // the next span reuses the memory
  EXPECT_EQ(stops[1]->flags() & NOPSPAN_FLAG_LINKS_DROPPED, 0U);
}

TEST(Link, OfAStepIsAMember) {
  const SpanRecorder steps("engine.step");
  const AsyncSpan request{nopspan::engine::request, Context::make()};
  Span{nopspan::engine::step}.link(request.context());
  const nopspan::OwnedEvent step = steps.stop();
  EXPECT_EQ(step->link_count(), 0U);
  ASSERT_EQ(step->member_count(), 1U);
  EXPECT_EQ(step->members()[0].request, id_of(request));
  EXPECT_NE(step->request_id(), request.request_id().view());
}

TEST(Link, OfAStepToASpanThatIsNotRecordedIsDroppedAndCounted) {
  const AsyncSpan unrecorded{nopspan::engine::request};
  const SpanRecorder steps("engine.step");
  const Counted dropped(&nopspan::Stats::links_dropped);
  Span{nopspan::engine::step, [&](auto& m) { m.link(unrecorded); }}.link(unrecorded);
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_EQ(steps.stop()->member_count(), 0U);  // not the step itself
}

TEST(Step, CallsNoMallocForItsMembers) {
  const RaisedGate tracer(RaisedGate::batch);
  const std::vector<nopspan::engine::Member> members(5000);
  { const Span first{nopspan::engine::step}; }
  const std::size_t before = allocations();
  short_span(nopspan::engine::step, [&](auto& m) { m.members(members.data(), members.size()).member(members[0]); });
  EXPECT_EQ(allocations(), before);
}

}  // namespace
