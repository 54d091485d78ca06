// SPDX-License-Identifier: Apache-2.0
// Point events: execute(), and events that belong to no span.
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>
#include <nopspan/propagation.h>

#include <atomic>
#include <list>
#include <memory>
#include <set>
#include <type_traits>

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

TEST(Execute, NeedsNoFieldsAndMayHaveTheNameAndTheMeasurementsOfASpansEvent) {
  const Recorder recorder{"cache.hit", "work.stop"};
  nopspan::execute("cache.hit");
  nopspan::execute("work.stop",
                   [](Fields& f) { f.set("by", "hand").measure("duration", 7).measure("system_time", 8); });
  const auto events = events_of(recorder, 2);
  EXPECT_TRUE(events[0]->metadata().empty() && events[0]->measurements().empty());
  EXPECT_THAT(keys_of(events[1]->metadata()), ElementsAre("by"));
  EXPECT_EQ(events[1]->duration_ns(), 7);
  EXPECT_EQ(events[1]->system_time_ns(), 8);
}

TEST(Execute, EvaluatesNothingWhenTheGateIsDown) {
  nopspan::execute("cache.hit", [](Fields&) { FAIL(); });
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

TEST(Gauge, EmitsAnEventOfEngineStatsWithWhatItIsGiven) {
  const Recorder recorder{"engine.stats"};
  const std::atomic<int> used = 10;
  nopspan::gauge("kv_cache_used", used,
                 [](auto& g) { g.engine("vllm").model("m").label("tier", "host").maximum(100); });
  nopspan::gauge("waiting{reason=adapter}", -3);
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], AllOf(HasMeasurement("kv_cache_used", 10), HasMetadata("gauge", "kv_cache_used")));
  EXPECT_THAT(events[0], AllOf(HasMetadata("engine", "vllm"), HasMetadata("model", "m"), HasMetadata("tier", "host")));
  EXPECT_THAT(events[0], AllOf(HasMetadata("maximum", 100), LacksMetadata("counter")));
  EXPECT_THAT(events[1], AllOf(HasMeasurement("waiting", -3), HasMetadata("reason", "adapter")));
  EXPECT_THAT(events[1], LacksMetadata("maximum"));
}

TEST(Gauge, TakesNullsAndOverlongTexts) {
  const Recorder recorder{"engine.stats"};
  const Counted truncated(&nopspan::Stats::truncated);
  nopspan::gauge(nullptr, 1);
  nopspan::gauge(std::string(100, 'g'), 1);
  EXPECT_EQ(recorder.size(), 2U);
  EXPECT_EQ(truncated.times(), 1U);
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
  nopspan::gauge("running", 1);
  nopspan::counter("aborted", 17, [](auto&) { FAIL(); });
  nopspan::gauge("waiting", 2, [](auto&) { FAIL(); });
}

// ---- The types that a handler reads: Event, FieldsView and ValueView. Also OwnedEvent, which a handler may keep.

using nopspan::FieldsView;
using nopspan::OwnedEvent;
using nopspan::ValueView;

OwnedEvent event_with(void (*fill)(Fields&)) {
  const Recorder recorder{"a.b"};
  nopspan::execute("a.b", fill);
  return recorder.events().at(0);
}

TEST(ValueView, OfAnAbsentKeyGivesTheFallbacks) {
  const OwnedEvent event = event_with([](Fields&) {});
  for (const ValueView& view : {event->metadata("none"), event->measurement("none"), ValueView()}) {
    EXPECT_FALSE(view.exists());
    EXPECT_TRUE(view.is_null());
    EXPECT_EQ(view.type(), Value::Type::null);
    EXPECT_EQ(view.as_int(), 0);
    EXPECT_EQ(view.as_int(7), 7);
    EXPECT_TRUE(view.as_bool(true));
    EXPECT_EQ(view.as_double(0.5), 0.5);
    EXPECT_EQ(view.as_string("fallback"), "fallback");
    EXPECT_FALSE(view.find("deeper").exists());
    EXPECT_TRUE(view.copy().is_null());
  }
}

TEST(ValueView, GivesTheFallbackForAnotherType) {
  const OwnedEvent event = event_with([](Fields& f) {
    f.set("i", 1).set("d", 1.5).set("b", true).set("s", "1").set("null", nullptr).set("nul", std::string("a\0b", 3));
  });
  EXPECT_EQ(event->metadata("d").as_int(9), 9);
  EXPECT_EQ(event->metadata("i").as_double(9), 1.0);  // the only conversion
  EXPECT_EQ(event->metadata("b").as_int(9), 9);
  EXPECT_EQ(event->metadata("s").as_int(9), 9);
  EXPECT_FALSE(event->metadata("i").as_bool(false));
  EXPECT_EQ(event->metadata("i").as_string("no"), "no");
  EXPECT_EQ(event->metadata("d").as_double(), 1.5);
  EXPECT_TRUE(event->metadata("b").as_bool());
  EXPECT_EQ(event->metadata("s").as_string(), "1");
  EXPECT_TRUE(event->metadata("null").exists() && event->metadata("null").is_null());
  EXPECT_FALSE(event->metadata("absent").exists());
  EXPECT_EQ(event->metadata("nul").as_string(), std::string_view("a\0b", 3));
}

TEST(ValueView, FindsInsideMaps) {
  const OwnedEvent event = event_with([](Fields& f) {
    f.set("map", Value::map({{"a", Value::map({{"b", 7}})}, {"list", Value::list({1, 2})}, {"", "empty key"}}));
  });
  const ValueView map = event->metadata("map");
  EXPECT_EQ(map.type(), Value::Type::map);
  EXPECT_EQ(map.find("a").find("b").as_int(), 7);
  EXPECT_EQ(map.find("").as_string(), "empty key");
  EXPECT_FALSE(map.find("b").exists());
  EXPECT_FALSE(map.find("list").find("").exists());
  EXPECT_EQ(map.copy().to_string(), R"({"a":{"b":7},"list":[1,2],"":"empty key"})");
}

TEST(FieldsView, KeepsTheOrderAndTheTwoSortsApart) {
  const OwnedEvent event =
      event_with([](Fields& f) { f.set("z", 1).measure("m", 2).set("a", 3).measure("b", 4).set("m", 5); });
  std::vector<std::string> order;
  const auto visit = [&](std::string_view key, ValueView value) {
    order.push_back(std::string(key) + "=" + value.copy().to_string());
  };
  event->metadata().for_each(visit);
  event->measurements().for_each(visit);
  EXPECT_THAT(order, ElementsAre("z=1", "a=3", "m=5", "m=2", "b=4"));
  EXPECT_EQ(event->metadata().size(), 3U);
  EXPECT_EQ(event->measurements().size(), 2U);
  EXPECT_EQ(event->metadata()["a"].as_int(), 3);
  EXPECT_EQ(event->metadata().copy(), Value::map({{"z", 1}, {"a", 3}, {"m", 5}}));
}

TEST(FieldsView, OfNothingIsEmpty) {
  const OwnedEvent event = event_with([](Fields&) {});
  EXPECT_TRUE(event->metadata().empty());
  EXPECT_TRUE(event->measurements().empty());
  EXPECT_EQ(event->metadata().copy(), Value::map());
  const FieldsView nothing;
  EXPECT_EQ(nothing.size(), 0U);
}

TEST(Event, OfNothingGivesZeroesAndEmptyTexts) {
  const Event event;
  EXPECT_EQ(event.name(), "");
  EXPECT_EQ(event.request_id(), "");
  EXPECT_EQ(event.span_id(), 0U);
  EXPECT_EQ(event.parent_id(), 0U);
  EXPECT_EQ(event.status(), Status::ok);
  EXPECT_EQ(event.duration_ns(), 0);
  EXPECT_EQ(event.monotonic_time_ns(), 0);
  EXPECT_EQ(event.system_time_ns(), 0);
  EXPECT_FALSE(event.is_orphan());
  EXPECT_EQ(event.link_count(), 0U);
  EXPECT_TRUE(event.config().is_null());
  EXPECT_TRUE(event.metadata().empty());
  const OwnedEvent owned(event);
  EXPECT_EQ(owned->name(), "");
}

static_assert(!std::is_copy_constructible_v<Event> && !std::is_copy_assignable_v<Event>);
static_assert(std::is_copy_constructible_v<nopspan::OwnedEvent>);

TEST(Event, MayBeKeptInsideTheHandler) {
  std::string first;
  std::string second;
  attach_ok("id", "work.stop", [&](const Event& event) {
    const nopspan::OwnedEvent copy(event);
    second = copy->metadata().copy().to_string();
    first = event.metadata().copy().to_string();
  });
  short_span("work", [](Fields& f) { f.set("k", 1); });
  detach_ok("id");
  EXPECT_EQ(first, second);
  EXPECT_EQ(first.find("span_id"), first.rfind("span_id"));  // the id appears once
}

TEST(Event, ShowsTheSameToEveryHandler) {
  std::vector<std::string> seen;
  const auto record = [&](const Event& event) {
    seen.push_back(event.metadata().copy().to_string() + event.measurements().copy().to_string());
  };
  attach_ok("one", "work.stop", record);
  attach_ok("two", "work.stop", record);
  Span{"work", [](Fields& f) { f.set("big", std::string(5000, 'x')); }}.measure("rows", 1);
  detach_ok("one");
  detach_ok("two");
  ASSERT_EQ(seen.size(), 2U);
  EXPECT_EQ(seen[0], seen[1]);
}

TEST(Event, ShowsMeasurementsToAHandlerThatLooksAtThemFirst) {
  attach_ok("id", "work.stop", [](const Event& event) {
    const FieldsView measurements = event.measurements();
    EXPECT_EQ(keys_of(event.metadata()).size(), 4U);
    EXPECT_THAT(keys_of(measurements), ElementsAre("duration", "monotonic_time"));  // still valid
    EXPECT_THAT(keys_of(event.measurements()), ElementsAre("duration", "monotonic_time"));
  });
  short_span("work", [](Fields& f) { f.set("k", std::string(700, 'x')); });
  detach_ok("id");
}

TEST(OwnedEvent, OutlivesTheSpanAndTheHandler) {
  std::vector<OwnedEvent> kept;
  attach_ok(
      "id", "work.stop", [&](const Event& event) { kept.emplace_back(event); }, "config");
  const nopspan::Context request = nopspan::Context::make();
  {
    Span span{"work", [](Fields& f) { f.set("k", Value::list({1, "two"})); }};
    span.link(request);
    span.measure("rows", 3);
  }
  detach_ok("id");
  { const Span other{"other"}; }
  ASSERT_EQ(kept.size(), 1U);
  const OwnedEvent copy = kept[0];
  OwnedEvent moved = std::move(kept[0]);
  kept.clear();
  kept.shrink_to_fit();
  for (const OwnedEvent* event : {&copy, static_cast<const OwnedEvent*>(&moved)}) {
    EXPECT_EQ((*event)->name(), "work.stop");
    EXPECT_EQ((*event)->request_id().size(), 22U);
    EXPECT_EQ((*event)->metadata("k").copy(), Value::list({1, "two"}));
    EXPECT_EQ((*event)->metadata("span_id").as_string().size(), 16U);
    EXPECT_EQ((*event)->measurement("rows").as_int(), 3);
    EXPECT_EQ((*event)->config(), Value("config"));
    EXPECT_EQ((*event)->link_count(), 1U);
  }
  moved = copy;
  const OwnedEvent& same = moved;
  moved = same;
  EXPECT_EQ(moved->name(), "work.stop");
}

TEST(OwnedEventView, IsAnEmptyEventOnceItIsMovedFrom) {
  OwnedEvent event = event_with([](Fields& f) { f.set("s", "text"); });
  auto heir = std::make_unique<OwnedEvent>(std::move(event));
  EXPECT_EQ((*heir)->metadata("s").as_string(), "text");
  heir.reset();
  const OwnedEvent copy(event);  // NOLINT(bugprone-use-after-move,hicpp-invalid-access-moved)
  EXPECT_TRUE(copy->name().empty());
  EXPECT_TRUE(copy->metadata().empty());
  EXPECT_EQ(copy->span_id(), 0U);
}

// ---- The lists of the event names in each catalogue.

using nopspan::EventNames;

TEST(EventNames, OfTheLlmCatalogueAreItsSpansAndTheRetry) {
  std::vector<std::string> expected =
      Recorder::span_events({"llm.generate", "llm.stream", "llm.step", "llm.chat", "llm.tool", "llm.image"});
  expected.emplace_back("llm.adapter.retry");
  const std::vector<std::string> names = nopspan::llm::event_names();
  EXPECT_EQ(names, expected);
  EXPECT_THAT(names, SizeIs(19));
}

TEST(EventNames, OfTheEngineAreItsSpansEventsAndGauges) {
  std::vector<std::string> expected =
      Recorder::span_events({"engine.request", "engine.queue", "engine.prefill", "engine.decode", "engine.step",
                             "engine.load", "engine.transfer", "engine.device"});
  for (const char* event : {"preempted", "swapped", "evicted", "prefix_cache", "rejected", "stats"}) {
    expected.push_back(std::string("engine.") + event);
  }
  EXPECT_EQ(std::vector<std::string>(nopspan::engine::event_names()), expected);
  EXPECT_EQ(nopspan::engine::event_prefix(), "engine");
}

TEST(EventNames, AreWhatAttachManyTakes) {
  unsigned events = 0;
  attach_many_ok("all", nopspan::llm::event_names(), [&](const nopspan::Event&) { ++events; });
  EXPECT_THAT(nopspan::list_handlers("llm"), SizeIs(19));
  { const Span span{nopspan::llm::chat}; }
  nopspan::llm::retry([](auto&) {});
  detach_ok("all");
  EXPECT_EQ(events, 3U);
}

TEST(EventNames, ConvertToOtherContainersOfStrings) {
  const EventNames names = nopspan::agent::event_names();
  EXPECT_THAT(std::set<std::string>(names), SizeIs(44));
  EXPECT_THAT(std::vector<std::string_view>(names), SizeIs(44));
  EXPECT_EQ(std::list<std::string>(names).front(), "agent.llm.start");
  static_assert(!std::is_convertible_v<EventNames, std::string>);
  static_assert(!std::is_convertible_v<EventNames, std::vector<int>>);
  const Recorder recorder(names);
  EXPECT_EQ(recorder.error(), Errc::ok);
}

TEST(EventNames, AreAListLikeOthers) {
  const EventNames names = nopspan::llm::event_names();
  EXPECT_FALSE(names.empty());
  EXPECT_EQ(names[0], "llm.generate.start");
  EXPECT_EQ(static_cast<std::size_t>(names.end() - names.begin()), names.size());
  EXPECT_TRUE(EventNames().empty());
  EXPECT_THAT(std::vector<std::string>(EventNames()), IsEmpty());
}

}  // namespace
