// SPDX-License-Identifier: Apache-2.0
// If there is no current request, the trace_id of an agent's spans and events becomes the request id.
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/stats.h>
#include <nopspan/value.h>

#include <string>
#include <string_view>

namespace {

namespace agent = nopspan::agent;

constexpr const char* kHex = "0af7651916cd43dd8448eb211c80319c";

class TraceId : public ::testing::Test {
 protected:
  const Recorder recorder_{nopspan::testing::Recorder(agent::event_names())};
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
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"trace_id", "run-4"}}), 1, 1), nopspan::Errc::ok);
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
  EXPECT_EQ(agent::emit("agent.operator.wait", Value::map(), Value::map({{"trace_id", "run-7"}})), nopspan::Errc::ok);
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"trace_id", "run-8"}}), 1, 1), nopspan::Errc::ok);
  const auto events = recorder_.events();
  ASSERT_THAT(events, SizeIs(5));
  EXPECT_EQ(events[0]->request_id(), "");
  EXPECT_EQ(events[1]->request_id(), "run-5");
  EXPECT_EQ(events[2]->request_id(), "run-6");
  EXPECT_EQ(events[3]->request_id(), "run-7");
  EXPECT_EQ(events[4]->request_id(), "run-8");
  EXPECT_TRUE(Context::current().empty());
  EXPECT_EQ(differ_.times(), 0U);
}

TEST_F(TraceId, ThatIsNoTextIsNoId) {
  for (const Value& none : {Value(), Value(""), Value(7), Value::list({"run"})}) {
    const Span call{agent::llm, [&](Fields& m) { m.set("trace_id", none); }};
    EXPECT_EQ(call.request_id().size(), 22U);
  }
  const Span call{agent::llm, [](auto& m) { m.trace_id(nullptr); }};
  EXPECT_EQ(call.request_id().size(), 22U);
}

TEST_F(TraceId, ThatIsContentStaysInTheProcess) {
  const Span call{agent::llm, [](Fields& m) { m.content("trace_id", "secret"); }};
  EXPECT_EQ(call.request_id().size(), 22U);
}

TEST_F(TraceId, WithControlCharactersIsCleaned) {
  const Span call{agent::llm, [](auto& m) { m.trace_id("a\nb\xff"); }};
  EXPECT_EQ(call.request_id(), "a?b?");
}

TEST_F(TraceId, OfOtherCataloguesIsMetadata) {
  const SpanRecorder own("mine");
  {
    const Span span{"mine", [](Fields& m) { m.set("trace_id", "run-9"); }};
  }
  EXPECT_EQ(own.start()->request_id().size(), 22U);
  EXPECT_THAT(own.start(), HasMetadata("trace_id", "run-9"));
}

TEST_F(TraceId, ThatIsSetLaterIsMetadata) {
  Span call{agent::llm};
  call.set("trace_id", "run-10");
  EXPECT_EQ(call.request_id().size(), 22U);
  EXPECT_EQ(differ_.times(), 0U);
}

}  // namespace
