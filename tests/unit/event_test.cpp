// SPDX-License-Identifier: Apache-2.0
// Point events: execute(), and events that belong to no span.
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/propagation.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace {

TEST(Execute, EmitsOneEventWithWhatItIsGivenAndNothingElse) {
  const Recorder recorder{"cache.hit"};
  nopspan::execute("cache.hit", [](Fields& f) { f.set("key", "k").measure("age", 3); });
  ASSERT_THAT(recorder.names(), ElementsAre("cache.hit"));
  const auto event = recorder.events()[0];
  EXPECT_THAT(keys_of(event->metadata()), ElementsAre("key"));
  EXPECT_THAT(keys_of(event->measurements()), ElementsAre("age"));
  EXPECT_THAT(event, HasStatus(Status::ok));
  EXPECT_EQ(event->request_id(), "");
  EXPECT_EQ(event->span_id(), 0U);
}

TEST(Execute, NeedsNoFields) {
  const Recorder recorder{"cache.hit"};
  nopspan::execute("cache.hit");
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_TRUE(recorder.events()[0]->metadata().empty());
  EXPECT_TRUE(recorder.events()[0]->measurements().empty());
}

TEST(Execute, MayMeasureWhatASpanMeasuresItself) {
  const Recorder recorder{"cache.hit"};
  nopspan::execute("cache.hit", [](Fields& f) { f.measure("duration", 7).measure("system_time", 8); });
  EXPECT_EQ(recorder.events()[0]->duration_ns(), 7);
  EXPECT_EQ(recorder.events()[0]->system_time_ns(), 8);
}

TEST(Execute, EvaluatesNothingWhenTheGateIsDown) {
  nopspan::execute("cache.hit", [](Fields&) { FAIL(); });
}

TEST(Execute, MayHaveTheNameOfASpansEvent) {
  const Recorder recorder{"work.stop"};
  nopspan::execute("work.stop", [](Fields& f) { f.set("by", "hand"); });
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_THAT(keys_of(recorder.events()[0]->metadata()), ElementsAre("by"));
}

TEST(Execute, BelongsToTheCurrentSpan) {
  const Recorder recorder{"outer.start", "inner.start", "cache.hit"};
  {
    const Span outer{"outer"};
    const Span inner{"inner", [](Fields& f) { f.set("of", "inner"); }};
    nopspan::execute("cache.hit", [](Fields&) {});
  }
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[2]->span_id(), events[1]->span_id());
  EXPECT_THAT(events[2], AllOf(IsChildOf(events[0]), LacksMetadata("of")));
}

TEST(Execute, HasTheParentOfItsSpanWhereverItIsEmitted) {
  const Recorder recorder{"outer.start", "point"};
  const Span outer{"outer"};
  const AsyncSpan span{"async", outer};
  span.event("point");
  nopspan::execute(span.context(), "point");
  nopspan::wrap(span.context(), [] { nopspan::execute("point"); })();
  in_thread([&] {
    const ContextScope here{span};
    nopspan::execute("point");
  });
  ASSERT_EQ(recorder.events("point").size(), 4U);
  for (const auto& event : recorder.events("point")) {
    EXPECT_THAT(event, IsChildOf(recorder.events("outer.start").at(0)));
    EXPECT_EQ(event->span_id(), span.context().span_id());
  }
}

TEST(Execute, HasNoParentInAnotherProcessesSpan) {
  const Recorder recorder{"point"};
  const Context caller = Context::from_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  nopspan::execute(caller, "point");
  const AsyncSpan span{"async", caller};
  span.event("point");
  ASSERT_EQ(recorder.size(), 2U);
  EXPECT_EQ(recorder.events()[0]->parent_id(), 0U);
  EXPECT_EQ(recorder.events()[1]->parent_id(), caller.span_id());
}

TEST(SpanEvent, BelongsToItsSpan) {
  const Recorder recorder{"cache.hit"};
  const Span outer{"outer"};
  const AsyncSpan named{"named"};
  const Span inner{"inner"};
  nopspan::execute(named.context(), "cache.hit", [](Fields&) {});
  named.event("cache.hit", [](Fields&) {});
  inner.event("cache.hit", [](Fields&) {});
  outer.event("cache.hit", [](Fields&) {});
  const auto events = events_of(recorder, 4);
  EXPECT_EQ(events[0]->span_id(), id_of(named));
  EXPECT_EQ(events[1]->span_id(), id_of(named));
  EXPECT_EQ(events[1]->request_id(), named.request_id().view());
  EXPECT_EQ(events[2]->span_id(), id_of(inner));
  EXPECT_EQ(events[2]->parent_id(), id_of(outer));
  EXPECT_EQ(events[3]->span_id(), id_of(outer));
}

TEST(SpanEvent, HasWhatIsSetAndNothingElse) {
  const Recorder recorder{"cache.hit"};
  const Span span{"work", [](Fields& f) { f.set("of", "work").measure("n", 1); }};
  span.event("cache.hit", [](Fields& f) { f.set("key", "k").measure("age", 3); });
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_THAT(keys_of(recorder.events()[0]->metadata()), ElementsAre("key"));
  EXPECT_THAT(keys_of(recorder.events()[0]->measurements()), ElementsAre("age"));
}

TEST(SpanEvent, EvaluatesNothingWhenTheGateIsDown) {
  const Span span{"work"};
  const AsyncSpan async{"work"};
  span.event("cache.hit", [](Fields&) { FAIL(); });
  async.event("cache.hit", [](Fields&) { FAIL(); });
}

TEST(SpanEvent, OfASpanThatIsNotRecordedBelongsToTheRequest) {
  const ContextScope here{Context::with_request_id("order-7")};
  const Span before{"work"};
  const Recorder recorder{"cache.hit"};
  before.event("cache.hit");
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_EQ(recorder.events()[0]->request_id(), "order-7");
  EXPECT_EQ(recorder.events()[0]->span_id(), 0U);
}

TEST(SpanEvent, HasTheParentOfAScopeThatIsNotTheInnermost) {
  const Recorder recorder{"cache.hit"};
  const Span outer{"outer"};
  const Span middle{"middle"};
  const Span inner{"inner"};
  middle.event("cache.hit");
  EXPECT_EQ(recorder.events().at(0)->parent_id(), id_of(outer));
}

TEST(Execute, BelongsToAContextScopeWithoutASpan) {
  const Recorder recorder{"cache.hit"};
  const Context context = Context::with_request_id("order-7");
  const ContextScope here{context};
  nopspan::execute("cache.hit");
  EXPECT_EQ(recorder.events()[0]->request_id(), "order-7");
  EXPECT_EQ(recorder.events()[0]->span_id(), 0U);
}

TEST(Execute, HasTheFlagsOfTheSpanThatItBelongsTo) {
  const Recorder recorder{"inner.start", "cache.hit"};
  const ContextScope here{Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")};
  const Span inner{"inner"};
  nopspan::execute("cache.hit");
  const auto events = events_of(recorder, 2);
  EXPECT_EQ(events[1]->flags(), NOPSPAN_FLAG_REMOTE_PARENT | NOPSPAN_FLAG_SAMPLED);
  EXPECT_EQ(events[1]->flags(), events[0]->flags() & ~NOPSPAN_FLAG_KIND_MASK);
}

TEST(Execute, CountsFieldsThatThrowAndEmitsTheEvent) {
  const Recorder recorder{"cache.hit"};
  const Counted failures(&nopspan::Stats::metadata_failures);
  nopspan::execute("cache.hit", [](Fields& f) {
    f.set("before", 1);
    throw std::runtime_error("");
  });
  EXPECT_EQ(failures.times(), 1U);
  EXPECT_THAT(recorder.events().at(0), HasMetadata("before", 1));
}

TEST(Gauge, EmitsAnEventOfEngineStats) {
  const Recorder recorder{"engine.stats"};
  const std::atomic<int> used = 10;
  nopspan::gauge("kv_cache_used", used, [](auto& g) { g.engine("vllm").maximum(100); });
  nopspan::gauge("running", -3);
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], AllOf(HasMeasurement("kv_cache_used", 10), HasMetadata("engine", "vllm")));
  EXPECT_THAT(events[0], AllOf(HasMetadata("gauge", "kv_cache_used"), HasMetadata("maximum", 100)));
  EXPECT_THAT(events[1], AllOf(HasMeasurement("running", -3), LacksMetadata("maximum")));
}

TEST(Gauge, TakesNullsAndOverlongTexts) {
  const Recorder recorder{"engine.stats"};
  const Counted truncated(&nopspan::Stats::truncated);
  nopspan::gauge(nullptr, 1);
  nopspan::gauge(std::string(100, 'g'), 1);
  EXPECT_EQ(recorder.size(), 2U);
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(Gauge, HasTheEngineTheModelAndTheLabelsThatItIsGiven) {
  const Recorder recorder{"engine.stats"};
  nopspan::gauge("waiting", 2, [](auto& g) { g.engine("vllm").model("m").label("reason", "slots").maximum(8); });
  nopspan::gauge("waiting{reason=adapter}", 1, [](auto& g) { g.engine("vllm"); });
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], AllOf(HasMeasurement("waiting", 2), HasMetadata("engine", "vllm"), HasMetadata("model", "m")));
  EXPECT_THAT(events[0], AllOf(HasMetadata("reason", "slots"), HasMetadata("maximum", 8), LacksMetadata("counter")));
  EXPECT_THAT(events[1], AllOf(HasMeasurement("waiting", 1), HasMetadata("reason", "adapter")));
}

TEST(Counter, IsAGaugeThatSaysWhatItIs) {
  const Recorder recorder{"engine.stats"};
  nopspan::counter("aborted", 17, [](auto& g) { g.engine("vllm"); });
  nopspan::counter("aborted", 18U);
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], AllOf(HasMeasurement("aborted", 17), HasMetadata("counter", true)));
  EXPECT_THAT(events[0], HasMetadata("engine", "vllm"));
  EXPECT_THAT(events[1], HasMeasurement("aborted", 18));
}

TEST(Counter, ComputesNothingWhenTheGateIsDown) {
  nopspan::counter("aborted", 17, [](auto&) { FAIL(); });
  nopspan::gauge("waiting", 2, [](auto&) { FAIL(); });
}

TEST(Gauge, DoesNothingWhenTheGateIsDown) { nopspan::gauge("running", 1); }

}  // namespace
