// SPDX-License-Identifier: Apache-2.0
// Each fact fires exactly one probe.
#include "fired.h"
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"

#include "thread/thread_state.h"

#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/mcp.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace llm = nopspan::llm;

TEST(McpMessage, FiresNoToolCall) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  {
    const Span tool{llm::tool, [](auto& m) { m.tool_name("weather"); }};
    short_span(nopspan::mcp::client, [](auto& m) { m.method("tools/call").tool_name("weather"); });
    EXPECT_EQ(fired[Probe::tool_call], 0U);
    short_span(nopspan::mcp::server, [](auto& m) { m.method("tools/call").tool_name("weather"); });
    EXPECT_EQ(fired[Probe::tool_call], 0U);
  }
  EXPECT_EQ(fired[Probe::tool_call], 1U);
}

TEST(Probes, OfASpanFireOncePerStartAndEnd) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  { const Span span{"work"}; }
  EXPECT_EQ(fired[Probe::span_start], 1U);
  EXPECT_EQ(fired[Probe::span_stop], 1U);
  EXPECT_THROW(nopspan::span("work", [] { throw 7; }), int);
  EXPECT_EQ(fired[Probe::span_stop], 2U);
  EXPECT_EQ(fired[Probe::span_exception], 1U);
  EXPECT_EQ(fired.in_all(), 5U);
}

TEST(Probes, DoNotFireForASpanWhileOnlyHandlersAreAttached) {
  const Fired fired;
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  EXPECT_EQ(recorder.size(), 2U);
  EXPECT_EQ(fired.in_all(), 0U);
}

TEST(Probes, OfOtherEventsDoNotMakePlainSpansRun) {
  const RaisedGate tracer(RaisedGate::points);
  short_span("work", [](Fields&) { FAIL(); });
  const Fired fired;
  llm::retry([](auto& r) { r.attempt(2); });
  nopspan::execute("cache.hit");
  nopspan::gauge("running", 1);
  EXPECT_EQ(fired[Probe::retry], 1U);
  EXPECT_EQ(fired[Probe::event], 1U);
  EXPECT_EQ(fired[Probe::gauge], 1U);
  EXPECT_EQ(fired.in_all(), 3U);
}

TEST(Probes, OfOtherEventsMakeTheCataloguesSpansRun) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  short_span(llm::generate, [](auto& m) { m.input_tokens(1).output_tokens(2); });
  EXPECT_EQ(fired[Probe::tokens], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
}

TEST(Probes, OfARunTimeNameAreThoseOfTheCataloguesName) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  llm::span(
      "generate", [](Fields& f) { f.input_tokens(1); }, [] {});
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

// While the probes of single facts are traced.
class Facts : public ::testing::Test {
 protected:
  const RaisedGate tracer{RaisedGate::points};
  const Fired fired;
};
using FirstTokenProbe = Facts;
using Retry = Facts;
using Tokens = Facts;
using ToolCall = Facts;

TEST_F(Tokens, FireAtTheEndOfTheInnermostSpanThatHasThem) {
  {
    Span chat{llm::chat};
    {
      Span step{llm::step};
      {
        Span generate{llm::generate};
        generate.set("output_tokens", 9);
        EXPECT_EQ(fired[Probe::tokens], 0U);
      }
      EXPECT_EQ(fired[Probe::tokens], 1U);
      step.set("output_tokens", 9);  // the same tokens, summed up by the outer span
    }
    chat.set("output_tokens", 9);
  }
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, OfSiblingsFireEach) {
  {
    Span chat{llm::chat};
    for (int i = 0; i < 3; ++i) {
      Span step{llm::step};
      step.set("input_tokens", 1);
    }
    chat.set("input_tokens", 3);
  }
  EXPECT_EQ(fired[Probe::tokens], 3U);
}

TEST_F(Tokens, OfASpanWhoseInsideHasNoneFire) {
  {
    Span chat{llm::chat};
    { const Span step{llm::step}; }
    chat.set("input_tokens", 0);  // 0 is a value, not a missing one
  }
  EXPECT_EQ(fired[Probe::tokens], 1U);
  { const Span chat{llm::chat}; }
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, FireOnceAcrossAnAsyncSpanInsideAScope) {
  {
    Span chat{llm::chat};
    AsyncSpan generate{llm::generate, Context::current()};
    generate.set("output_tokens", 9);
    generate.end();
    chat.set("output_tokens", 9);
  }
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, FireOnceAcrossAnAsyncSpanBetweenTwoScopes) {
  {
    Span chat{llm::chat};
    const AsyncSpan request{nopspan::engine::request, Context::current()};
    {
      const ContextScope here{request.context()};
      Span step{llm::step};
      step.set("output_tokens", 9);
    }
    AsyncSpan generate{llm::generate, request.context()};
    generate.set("output_tokens", 4);
    generate.end();
    chat.set("output_tokens", 13);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, OfAnAsyncSpanFireNotAgainAfterTheScopeInsideIt) {
  AsyncSpan request{nopspan::engine::request};
  {
    const ContextScope here{request.context()};
    Span step{llm::step};
    step.set("output_tokens", 9);
  }
  request.set("output_tokens", 9);
  request.end();
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, FireOnceAcrossThreads) {
  std::uint64_t elsewhere = 0;
  {
    Span chat{llm::chat};
    const Context context = chat.context();
    in_thread([&] {
      const Fired there;
      const ContextScope here{context};
      {
        const Span between{"work"};
        Span step{llm::step};
        step.set("output_tokens", 9);
      }
      elsewhere = there[Probe::tokens];
    });
    chat.set("output_tokens", 9);
  }
  EXPECT_EQ(elsewhere, 1U);
  EXPECT_EQ(fired[Probe::tokens], 0U);
}

TEST_F(Tokens, OfAnAsyncChainFireAtItsInnermostEnd) {
  AsyncSpan chat{llm::chat};
  AsyncSpan step{llm::step, chat.context()};
  AsyncSpan generate{llm::generate, step.context()};
  generate.set("output_tokens", 9);
  generate.end();
  step.end();  // has no tokens itself, but its parent must know that they were reported
  chat.set("output_tokens", 9);
  chat.end();
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, OfManyRequestsAtATimeFireOnceEach) {
  std::vector<AsyncSpan> chats;
  for (int i = 0; i < 1000; ++i) {
    chats.emplace_back(llm::chat);
    AsyncSpan step{llm::step, chats.back().context()};
    step.set("output_tokens", 9);
    step.end();
  }
  for (AsyncSpan& chat : chats) {
    chat.set("output_tokens", 9);
    chat.end();
  }
  EXPECT_EQ(fired[Probe::tokens], 1000U);
}

TEST_F(Tokens, OfALongRequestAreRememberedWhateverComesInBetween) {
  AsyncSpan chat{llm::chat};
  const auto run = [](AsyncSpan& around) {
    AsyncSpan step{llm::step, around.context()};
    step.set("output_tokens", 9);
    step.end();
  };
  run(chat);
  for (int i = 0; i < 20000; ++i) {
    AsyncSpan other{llm::chat};
    run(other);
    other.end();
  }
  const Fired later;
  chat.set("output_tokens", 9);
  chat.end();
  EXPECT_EQ(later[Probe::tokens], 0U);
}

TEST_F(Tokens, OfABranchAreNotThoseOfAnotherOnTheSameThread) {
  AsyncSpan root{llm::chat};
  AsyncSpan branch{llm::step, root.context()};
  {
    const ContextScope to_root{root.context()};
    Span other{llm::step};
    {
      const ContextScope to_branch{branch.context()};
      Span generate{llm::generate};
      generate.set("output_tokens", 3);
    }
    other.set("output_tokens", 5);
  }
  branch.end();
  root.end();
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, OfASpanThatOutlivesItsParentAreNotItsGrandparents) {
  AsyncSpan chat{llm::chat};
  AsyncSpan step{llm::step, chat.context()};
  AsyncSpan stream{llm::generate, step.context()};
  step.end();
  stream.set("output_tokens", 30);
  stream.end();
  chat.set("output_tokens", 30);
  chat.end();
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, OfAUsageThatIsAMapFireToo) {
  short_span(llm::image, [](auto& m) { m.usage(Value::map({{"input_tokens", 5}, {"output_tokens", 7}})); });
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, ThatAreTakenBackFireNothing) {
  short_span(llm::step, [](auto& m) { m.input_tokens(5).set("input_tokens", nullptr); });
  EXPECT_EQ(fired[Probe::tokens], 0U);
}

TEST_F(Tokens, OfASecondRootOfARequestAreNotTheFirstOnes) {
  const Context request = Context::make();
  const ContextScope here{request};
  {
    Span first{llm::chat};
    {
      const ContextScope again{request};
      const Span second{llm::chat};
      Span child{llm::generate};
      child.set("output_tokens", 7);
    }
    first.set("output_tokens", 9);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, OfACallThatCameBackAreNotTheCallers) {
  {
    Span caller{llm::chat};
    {
      const ContextScope served{Context::from_traceparent(Context::current().traceparent())};
      Span request{nopspan::engine::request};
      request.set("output_tokens", 7);
    }
    caller.set("output_tokens", 9);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, ThatAreContentFireNothing) {
  const Recorder handler{"llm.generate.stop"};
  short_span(llm::generate, [](auto& m) { m.content("output_tokens", 42); });
  EXPECT_EQ(fired[Probe::tokens], 0U);
}

TEST_F(Tokens, OfAnAsyncSpanAreNotAScopesOfAnotherRequest) {
  {
    Span chat{llm::chat};
    AsyncSpan other{llm::generate};
    other.set("output_tokens", 9);
    other.end();
    chat.set("output_tokens", 5);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, OfAScopeAreNotAScopesOfAnotherRequestAroundIt) {
  {
    Span batch{llm::step};
    {
      const ContextScope request{Context::make()};
      Span generate{llm::generate};
      generate.set("output_tokens", 9);
    }
    batch.set("output_tokens", 5);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, OfAScopeThatEndsOnAnotherThreadFireToo) {
  std::optional<Span> span(std::in_place, llm::generate);
  span->set("output_tokens", 9);
  in_thread([&] {
    const Fired there;
    span.reset();
    EXPECT_EQ(there[Probe::tokens], 1U);
  });
}

TEST_F(ToolCall, IsNoneOfANameThatIsContent) {
  short_span(llm::tool, [](auto& m) { m.content("tool_name", "secret"); });
  EXPECT_EQ(fired[Probe::tool_call], 0U);
}

TEST_F(ToolCall, FiresAtTheEndOfTheInnermostToolOnce) {
  {
    const Span step{llm::step};
    const Span tool{llm::tool, [](auto& m) { m.tool_name("search"); }};
    EXPECT_EQ(fired[Probe::tool_call], 0U);
  }
  EXPECT_EQ(fired[Probe::tool_call], 1U);
  {
    const Span outer{llm::tool, [](auto& m) { m.tool_name("delegate"); }};
    const Span inner{llm::tool, [](auto& m) { m.tool_name("search"); }};
  }
  EXPECT_EQ(fired[Probe::tool_call], 2U);
  { const Span chat{llm::chat}; }
  EXPECT_EQ(fired[Probe::tool_call], 2U);
}

TEST_F(FirstTokenProbe, FiresOnceASpan) {
  {
    Span span{llm::stream};
    span.first_token();
    span.first_token();
  }
  EXPECT_EQ(fired[Probe::first_token], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
}

TEST(EngineRequest, FiresWhereAnEngineKnowsItsTimes) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  {
    AsyncSpan request{nopspan::engine::request};
    request.with<nopspan::engine::RequestFields>([](auto& m) { m.queue_ns(1).prefill_ns(2).decode_ns(3); });
    request.end();
  }
  EXPECT_EQ(fired[Probe::engine_request], 1U);
}

TEST(EngineRequest, DoesNotFireForAnArrivalAlone) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  Span{nopspan::engine::request}.set("arrival_ns", 1).set("preemptions", 0);
  EXPECT_EQ(fired[Probe::engine_request], 0U);
}

TEST_F(Retry, FiresItsProbeOnlyAndTheEventProbeNot) {
  llm::retry([](auto& r) { r.attempt(1).delay_ms(20).reason("timeout"); });
  EXPECT_EQ(fired[Probe::retry], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
}

TEST_F(Retry, FiresTheSameProbeWhicheverFunctionEmitsIt) {
  llm::execute("adapter.retry", [](Fields& f) { f.set("attempt", 1); });
  EXPECT_EQ(fired[Probe::retry], 1U);
  nopspan::genai::retry([](auto& e) { e.attempt(1); });
  EXPECT_EQ(fired[Probe::retry], 2U);
  EXPECT_EQ(fired.in_all(), 2U);
}

TEST(Probes, OfAHandlersFailureIsAnEventOfTheSpan) {
  const Recorder recorder{"telemetry.handler.failure"};
  const RaisedGate points(RaisedGate::points);
  attach_ok("bad", "work.start", [](const Event&) { throw 7; });
  const Fired fired;
  const Span span{"work"};
  EXPECT_EQ(fired[Probe::event], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
  EXPECT_EQ(recorder.events().at(0)->span_id(), id_of(span));
}

TEST(Probes, TakeSpansWithEverything) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Fired fired;
  nopspan::capture_content(true);
  {
    const ContextScope here{
        Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=1")};
    Span span{
        llm::tool, [](auto& m) {
          m.engine("e").model(std::string(100, 'm')).tenant("t").tool_name("search").tool_call_id("1");
          m.result(std::string(20'000, 'r')).input_tokens(1).output_tokens(2).cached_tokens(3).reasoning_tokens(4);
        }};
    for (int i = 0; i < 200; ++i) span.link(Context::make());
    span.first_token();
    span.fail("timeout", "message");
  }
  nopspan::capture_content(false);
  EXPECT_EQ(fired[Probe::span_start], 1U);
  EXPECT_EQ(fired[Probe::span_stop], 1U);
  EXPECT_EQ(fired[Probe::tokens], 1U);
  EXPECT_EQ(fired[Probe::tool_call], 1U);
  EXPECT_EQ(fired[Probe::first_token], 1U);
}

TEST(Probes, ArePassedOnlyByTheParentForASpanThatItBegan) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  std::optional<Span> span(std::in_place, llm::stream);
  AsyncSpan async{llm::stream};
  expect_in_child([&] {
    const Fired fired;
    span->first_token();
    async.first_token();
    async.end();
    span.reset();
    EXPECT_EQ(fired.in_all(), 0U);
    { const Span own{"own"}; }
    EXPECT_EQ(fired[Probe::span_start], 1U);
    EXPECT_EQ(nopspan::detail::thread_state()->sequence[0], 1U);  // a new sequence_id begins at 0
  });
}

TEST(Labels, AreBoundedAndTheRestIsOther) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const Counted overflow(&nopspan::Stats::labels_overflow);
    for (int i = 0; i < 5000; ++i) {
      const Span span{"work", [&](Fields& f) { f.model("model-" + std::to_string(i)); }};
    }
    EXPECT_GE(overflow.times(), 5000U - 4096U);
  });
}

}  // namespace
