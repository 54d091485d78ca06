// SPDX-License-Identifier: Apache-2.0
// Request ids, trace ids and times that the application gives.
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>

#include <optional>

namespace {

// ---- If there is no current request, the request_id of a span or event becomes its request's id, and so does the
// trace_id of an agent's.

namespace agent = nopspan::agent;
namespace llm = nopspan::llm;

constexpr const char* kHex = "0af7651916cd43dd8448eb211c80319c";

class TraceId : public ::testing::Test {
 protected:
  const Recorder recorder_{Recorder(agent::event_names())};
  const Counted differ_{&nopspan::Stats::trace_ids_differ};
};

TEST_F(TraceId, OfASpanBecomesTheRequestIdOfAllBelow) {
  {
    const Span iteration{agent::operator_iteration, [](auto& m) { m.trace_id("run-1"); }};
    EXPECT_EQ(nopspan::request_id(), "run-1");
    agent::tool_span([](auto& m) { m.trace_id("run-1"); }, [] { EXPECT_EQ(nopspan::request_id(), "run-1"); });
    agent::operators::done([](auto& e) { e.trace_id("run-1"); });
  }
  for (const auto& event : recorder_.events()) {
    EXPECT_EQ(event->request_id(), "run-1") << event->name();
    EXPECT_EQ(event->context().trace_id(), Context::with_request_id("run-1").trace_id().view());
  }
  EXPECT_THAT(recorder_.events("agent.tool.stop")[0], HasMetadata("request_id", "run-1"));
  EXPECT_EQ(differ_.times(), 0U);
  EXPECT_TRUE(Context::current().empty());
}

TEST_F(TraceId, OfHexadecimalDigitsIsTheTraceIdItself) {
  const Span call{agent::llm, [](auto& m) { m.trace_id(kHex); }};
  EXPECT_EQ(call.context().trace_id(), kHex);
  EXPECT_EQ(call.context().traceparent().view().substr(3, 32), kHex);
  EXPECT_EQ(call.request_id(), kHex);
}

TEST_F(TraceId, ThatIsARequestIdStaysCanonical) {
  const nopspan::RequestId id = nopspan::make_request_id();
  const Span call{agent::llm, [&](auto& m) { m.trace_id(id); }};
  EXPECT_EQ(call.request_id(), id);
  EXPECT_EQ(recorder_.events()[0]->flags() & 2U, 0U) << "not foreign";
}

TEST_F(TraceId, OfAnAsyncSpanAndOfACompleteOneIsTakenToo) {
  AsyncSpan slot{agent::coordinator_iteration, Context(), [](auto& m) { m.trace_id("run-2"); }};
  EXPECT_EQ(slot.request_id(), "run-2");
  slot.end();
  nopspan::complete(agent::llm, Context(), 1, 1, [](auto& m) { m.trace_id("run-3"); });
  EXPECT_EQ(recorder_.events("agent.llm.start")[0]->request_id(), "run-3");
  EXPECT_EQ(recorder_.events("agent.llm.stop")[0]->request_id(), "run-3");
}

TEST_F(TraceId, InsideARequestStaysMetadataAndIsCounted) {
  const ContextScope request{Context::with_request_id("order-7")};
  {
    const Span call{agent::llm, [](auto& m) { m.trace_id("run-4"); }};
    EXPECT_EQ(call.request_id(), "order-7");
  }
  EXPECT_EQ(differ_.times(), 1U);
  agent::operators::done([](auto& e) { e.trace_id("run-4"); });
  EXPECT_EQ(differ_.times(), 2U);
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"trace_id", "run-4"}}), 1, 1), Errc::ok);
  EXPECT_EQ(differ_.times(), 3U);
  for (const auto& event : recorder_.events()) {
    EXPECT_EQ(event->request_id(), "order-7");
    EXPECT_THAT(event, HasMetadata("trace_id", "run-4"));
  }
}

TEST_F(TraceId, ThatIsTheRequestsIsNotCounted) {
  const ContextScope request{Context::make()};
  const std::string id = Context::current().trace_id();
  const Span call{agent::llm, [&](auto& m) { m.trace_id(id); }};
  const Span tool{agent::tool, [&](auto& m) { m.trace_id(nopspan::request_id()); }};
  EXPECT_EQ(differ_.times(), 0U);
  EXPECT_EQ(tool.context().trace_id(), id);
}

TEST_F(TraceId, OfAnEventWithoutARequestIsItsRequestId) {
  agent::operators::started([](auto& e) { e.operator_name("o"); });
  agent::operators::done([](auto& e) { e.trace_id("run-5"); });
  agent::operators::done(Context(), [](auto& e) { e.trace_id("run-6"); });
  EXPECT_EQ(agent::emit("agent.operator.wait", Value::map(), Value::map({{"trace_id", "run-7"}})), Errc::ok);
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"trace_id", "run-8"}}), 1, 1), Errc::ok);
  const auto events = events_of(recorder_, 5);
  EXPECT_EQ(events[0]->request_id(), "");
  EXPECT_EQ(events[1]->request_id(), "run-5");
  EXPECT_EQ(events[2]->request_id(), "run-6");
  EXPECT_EQ(events[3]->request_id(), "run-7");
  EXPECT_EQ(events[4]->request_id(), "run-8");
  EXPECT_TRUE(Context::current().empty());
  EXPECT_EQ(differ_.times(), 0U);
}

TEST_F(TraceId, ThatIsNoTextOrContentIsNoId) {
  for (const Value& none : {Value(), Value(""), Value(7), Value::list({"run"})}) {
    const Span call{agent::llm, [&](Fields& m) { m.set("trace_id", none); }};
    EXPECT_EQ(call.request_id().size(), 22U);
  }
  for (const auto& fill :
       std::vector<void (*)(agent::LlmFields&)>{[](agent::LlmFields& m) { m.trace_id(nullptr); },
                                                [](agent::LlmFields& m) { m.content("trace_id", "secret"); }}) {
    const Span call{agent::llm, fill};
    EXPECT_EQ(call.request_id().size(), 22U);
  }
  const Span call{agent::llm, [](auto& m) { m.trace_id("a\nb\xff"); }};
  EXPECT_EQ(call.request_id(), "a?b?") << "it is cleaned";
}

TEST_F(TraceId, OfOtherCataloguesIsMetadata) {
  const SpanRecorder own("mine");
  short_span("mine", [](Fields& m) { m.set("trace_id", "run-9"); });
  EXPECT_EQ(own.start()->request_id().size(), 22U);
  EXPECT_THAT(own.start(), HasMetadata("trace_id", "run-9"));
}

TEST_F(TraceId, ThatIsSetLaterIsMetadataAndIsCounted) {
  {
    Span call{agent::llm};
    call.set("trace_id", "run-10");
    EXPECT_EQ(call.request_id().size(), 22U);
  }
  EXPECT_EQ(differ_.times(), 1U);
}

class RequestIdInMetadata : public ::testing::Test {
 protected:
  const Counted differ_{&nopspan::Stats::trace_ids_differ};
};

TEST_F(RequestIdInMetadata, IsTheRequestsIdForAllBelow) {
  const Recorder recorder{"llm.chat.start", "llm.tool.start", "llm.adapter.retry", "gen_ai.retry", "llm.chat.stop"};
  {
    const Span chat{llm::chat, [](auto& m) { m.request_id("order-1").model("tiny"); }};
    EXPECT_EQ(nopspan::request_id(), "order-1");
    const Span tool{llm::tool};
    llm::retry([](auto& r) { r.attempt(1); });
  }
  const auto events = events_of(recorder, 5);
  for (const auto& event : events) {
    EXPECT_EQ(event->request_id(), "order-1") << event->name();
    EXPECT_EQ(event->context().trace_id(), Context::with_request_id("order-1").trace_id());
    EXPECT_NE(event->span_id(), 0U);
    if (event->name() == "gen_ai.retry") continue;
    EXPECT_THAT(event, HasMetadata("request_id", "order-1"));
  }
  EXPECT_EQ(differ_.times(), 0U);
  EXPECT_TRUE(Context::current().empty());
}

TEST_F(RequestIdInMetadata, OfASpanOfAnyNameIsTheRequestsId) {
  const SpanRecorder recorder("work");
  const Span work{"work", [](Fields& m) { m.set("request_id", "order-2"); }};
  EXPECT_EQ(work.request_id(), "order-2");
  EXPECT_EQ(recorder.start()->request_id(), "order-2");
}

TEST_F(RequestIdInMetadata, OfASpanThatNoHandlerReceivesIsTheRequestsIdToo) {
  const Recorder recorder{"cache.hit"};
  const Span work{"work", [](Fields& m) { m.request_id("order-3"); }};
  nopspan::execute("cache.hit");
  EXPECT_EQ(recorder.events().at(0)->request_id(), "order-3");
}

TEST_F(RequestIdInMetadata, OfAnAsyncSpanACompleteOneAndAnEventIsTakenToo) {
  const Recorder recorder{"slot.stop", "done.stop", "cache.hit"};
  AsyncSpan slot{"slot", Context(), [](Fields& m) { m.request_id("order-4"); }};
  slot.end();
  nopspan::complete("done", Context(), 1, 1, [](Fields& m) { m.request_id("order-5"); });
  nopspan::execute("cache.hit", [](Fields& f) { f.request_id("order-6"); });
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[0]->request_id(), "order-4");
  EXPECT_EQ(events[1]->request_id(), "order-5");
  EXPECT_EQ(events[2]->request_id(), "order-6");
}

TEST_F(RequestIdInMetadata, InsideARequestStaysMetadataAndIsCounted) {
  const SpanRecorder recorder("work");
  const ContextScope request{Context::with_request_id("order-7")};
  {
    Span work{"work", [](Fields& m) { m.request_id("order-8"); }};
    EXPECT_EQ(work.request_id(), "order-7");
    EXPECT_EQ(differ_.times(), 1U);
    work.set("request_id", "order-7");
  }
  EXPECT_EQ(differ_.times(), 1U);
  EXPECT_EQ(recorder.start()->request_id(), "order-7");
  EXPECT_THAT(recorder.start(), HasMetadata("request_id", "order-8"));
}

TEST_F(RequestIdInMetadata, ThatIsSetLaterStaysMetadataAndIsCounted) {
  const SpanRecorder recorder("work");
  { Span("work").set("request_id", "order-9"); }
  EXPECT_EQ(differ_.times(), 1U);
  EXPECT_EQ(recorder.stop()->request_id().size(), 22U);
  EXPECT_THAT(recorder.stop(), HasMetadata("request_id", "order-9"));
}

TEST_F(RequestIdInMetadata, IsTakenBeforeATraceId) {
  const Recorder recorder{"agent.llm.start"};
  const Span call{agent::llm, [](auto& m) { m.trace_id("run-11").request_id("order-10"); }};
  EXPECT_EQ(call.request_id(), "order-10");
  EXPECT_EQ(differ_.times(), 1U);
}

TEST_F(RequestIdInMetadata, ThatIsEmptyOrContentIsIgnored) {
  const auto start = started("work", [](Fields& m) { m.request_id("").request_id(nullptr); });
  EXPECT_THAT(start, HasMetadata("request_id", start->request_id()));
  EXPECT_EQ(start->request_id().size(), 22U);
  const SpanRecorder recorder("work");
  const Span work{"work", [](Fields& m) { m.content("request_id", "secret"); }};
  EXPECT_EQ(work.request_id().size(), 22U);
  const AsyncSpan other{"work", Context(), [](Fields& m) { m.set("request_id", "a").content("request_id", "secret"); }};
  EXPECT_EQ(other.request_id().size(), 22U);
}

// ---- Spans whose start and end times the application supplies.

using nopspan::SpanKind;

class GivenToWork : public ::testing::Test {
 protected:
  const SpanRecorder recorder_{"work"};
};
using GivenTimes = GivenToWork;
using Complete = GivenToWork;

constexpr std::uint64_t kSecond = 1'000'000'000;

TEST_F(GivenTimes, BeginASpanInThePast) {
  const std::uint64_t start = monotonic_ns() - kSecond;
  { const Span span{"work", {SpanKind::internal, start}}; }
  EXPECT_EQ(recorder_.start()->monotonic_time_ns(), static_cast<std::int64_t>(start));
  EXPECT_GE(recorder_.stop()->duration_ns(), static_cast<std::int64_t>(kSecond));
  EXPECT_NE(recorder_.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST_F(GivenTimes, MoveTheSystemTimeToo) {
  { const Span now{"work"}; }
  { const Span past{"work", {SpanKind::internal, monotonic_ns() - kSecond}}; }
  const auto starts = events_of(recorder_, 2, "work.start");
  EXPECT_LT(starts[1]->system_time_ns(), starts[0]->system_time_ns());
}

TEST_F(GivenTimes, EndASpanEarlierThanItsScope) {
  std::uint64_t start = 0;
  {
    Span span{"work"};
    start = static_cast<std::uint64_t>(recorder_.start()->monotonic_time_ns());
    span.end_at(start + 5);
  }
  EXPECT_EQ(recorder_.stop()->duration_ns(), 5);
  EXPECT_EQ(recorder_.stop()->monotonic_time_ns(), static_cast<std::int64_t>(start + 5));
}

TEST_F(GivenTimes, OfASpanThatEndsOnAnotherThreadAreFlaggedToo) {
  std::optional<Span> span(std::in_place, "work");
  span->end_at(static_cast<std::uint64_t>(recorder_.start()->monotonic_time_ns()) + 5);
  in_thread([&] { span.reset(); });
  EXPECT_EQ(recorder_.stop()->duration_ns(), 5);
  EXPECT_NE(recorder_.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST_F(GivenTimes, BeforeTheStartCountAsTheStart) {
  AsyncSpan span{"work"};
  span.end_at(1);
  span.end();
  EXPECT_EQ(recorder_.stop()->duration_ns(), 0);
  EXPECT_EQ(recorder_.stop()->monotonic_time_ns(), recorder_.start()->monotonic_time_ns());
}

TEST_F(GivenTimes, AreNotFlaggedWhereThereAreNone) {
  { const Span span{"work"}; }
  EXPECT_EQ(recorder_.stop()->flags() & NOPSPAN_FLAG_GIVEN_TIMES, 0U);
}

TEST_F(Complete, EmitsStartAndStopAtOnceWithTheTimesGiven) {
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

TEST_F(Complete, KeepsItsMeasurementsForTheStop) {
  nopspan::complete("work", Context(), 1000, 250, [](Fields& f) { f.measure("tokens", 7); });
  EXPECT_THAT(keys_of(recorder_.stop()->measurements()), ElementsAre("duration", "monotonic_time", "tokens"));
}

TEST_F(Complete, DoesNotTouchTheCurrentContext) {
  nopspan::complete("work", Context(), 1000, 1, [](Fields&) { EXPECT_TRUE(Context::current().empty()); });
  EXPECT_TRUE(Context::current().empty());
}

TEST(CompleteWithoutAReceiver, EvaluatesNothingWhenTheGateIsDown) {
  bool called = false;
  nopspan::complete("work", Context(), 1000, 1, [&](Fields&) { called = true; });
  EXPECT_FALSE(called);
}

TEST_F(Complete, GoesOnWhenTheFieldsThrow) {
  nopspan::complete("work", Context(), 1000, 1, [](Fields&) { throw std::runtime_error(""); });
  EXPECT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
}

}  // namespace
