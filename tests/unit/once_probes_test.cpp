// SPDX-License-Identifier: Apache-2.0
// Each fact fires exactly one probe.
#include "fired.h"
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"

#include "thread/thread_state.h"

#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/mcp.h>

#include <functional>
#include <optional>

namespace {

namespace llm = nopspan::llm;

TEST(Probes, OfASpanFireOncePerStartAndEnd) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  { const Span span{"work"}; }
  EXPECT_EQ(fired.all(), (Hits{{Probe::span_start, 1}, {Probe::span_stop, 1}}));
  EXPECT_THROW(nopspan::span("work", [] { throw 7; }), int);
  EXPECT_EQ(fired.all(), (Hits{{Probe::span_start, 2}, {Probe::span_stop, 2}, {Probe::span_exception, 1}}));
}

TEST(Probes, DoNotFireForASpanWhileOnlyHandlersAreAttached) {
  const Fired fired;
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  EXPECT_EQ(recorder.size(), 2U);
  EXPECT_EQ(fired.all(), Hits());
}

// While the probes of single facts are traced.
class Facts : public ::testing::Test {
 protected:
  const RaisedGate tracer{RaisedGate::points};
  const Fired fired;
};
using FactProbes = Facts;
using McpMessage = Facts;
using FirstTokenProbe = Facts;
using RequestOfAnEngine = Facts;
using Retry = Facts;
using Tokens = Facts;
using ToolCall = Facts;

TEST_F(FactProbes, OfOtherEventsDoNotMakePlainSpansRun) {
  short_span("work", [](Fields&) { FAIL(); });
  llm::retry([](auto& r) { r.attempt(2); });
  nopspan::execute("cache.hit");
  nopspan::gauge("running", 1);
  EXPECT_EQ(fired.all(), (Hits{{Probe::retry, 1}, {Probe::event, 1}, {Probe::gauge, 1}}));
}

TEST_F(FactProbes, MakeTheCataloguesSpansRunWhoseNameMayComeAtRunTime) {
  short_span(llm::generate, [](auto& m) { m.input_tokens(1).output_tokens(2); });
  EXPECT_EQ(fired.all(), (Hits{{Probe::tokens, 1}}));
  llm::span(
      "generate", [](Fields& f) { f.input_tokens(1); }, [] {});
  EXPECT_EQ(fired.all(), (Hits{{Probe::tokens, 2}}));
}

TEST_F(McpMessage, FiresNoToolCall) {
  {
    const Span tool{llm::tool, [](auto& m) { m.tool_name("weather"); }};
    short_span(nopspan::mcp::client, [](auto& m) { m.method("tools/call").tool_name("weather"); });
    short_span(nopspan::mcp::server, [](auto& m) { m.method("tools/call").tool_name("weather"); });
    EXPECT_EQ(fired[Probe::tool_call], 0U);
  }
  EXPECT_EQ(fired[Probe::tool_call], 1U);
}

// A span that has tokens.
template <class N>
void generate(const N& name) {
  Span{name}.set("output_tokens", 9);
}
template <class N>
void generate_in(const nopspan::ContextRef& parent, const N& name) {
  AsyncSpan{name, parent}.set("output_tokens", 9).end();
}
template <class S>
void end_with_tokens(S& span) {
  span.set("output_tokens", 9).end();
}

TEST_F(Tokens, FireAtTheEndOfTheInnermostSpanThatHasThem) {
  {
    Span chat{llm::chat};
    {
      Span step{llm::step};
      EXPECT_EQ(fired[Probe::tokens], 0U);
      generate(llm::generate);
      EXPECT_EQ(fired[Probe::tokens], 1U);
      step.set("output_tokens", 9);  // the same tokens, summed up by the outer span
    }
    chat.set("output_tokens", 9);
  }
  EXPECT_EQ(fired[Probe::tokens], 1U);
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

TEST_F(Tokens, FireOnceAcrossAnAsyncSpanBetweenTwoScopes) {
  {
    Span chat{llm::chat};
    const AsyncSpan request{nopspan::engine::request, Context::current()};
    {
      const ContextScope here{request.context()};
      generate(llm::step);
    }
    generate_in(request.context(), llm::generate);
    chat.set("output_tokens", 18);
  }
  EXPECT_EQ(fired[Probe::tokens], 2U);
}

TEST_F(Tokens, FireOnceAcrossThreads) {
  std::uint64_t elsewhere = 0;
  {
    Span chat{llm::chat};
    in_thread([&, context = chat.context()] {
      const Fired there;
      const ContextScope here{context};
      {
        const Span between{"work"};
        generate(llm::step);
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
  generate_in(step.context(), llm::generate);
  step.end();  // has no tokens itself, but its parent must know that they were reported
  end_with_tokens(chat);
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, OfManyRequestsAtATimeFireOnceEach) {
  std::vector<AsyncSpan> chats;
  for (int i = 0; i < 1000; ++i) {
    chats.emplace_back(llm::chat);
    generate_in(chats.back().context(), llm::step);
  }
  for (AsyncSpan& chat : chats) end_with_tokens(chat);
  EXPECT_EQ(fired[Probe::tokens], 1000U);
}

TEST_F(Tokens, OfALongRequestAreRememberedWhateverComesInBetween) {
  AsyncSpan chat{llm::chat};
  generate_in(chat.context(), llm::step);
  for (int i = 0; i < 20000; ++i) {
    AsyncSpan other{llm::chat};
    generate_in(other.context(), llm::step);
    other.end();
  }
  const Fired later;
  end_with_tokens(chat);
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
      generate(llm::generate);
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
  end_with_tokens(stream);
  end_with_tokens(chat);
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

TEST_F(Tokens, OfAUsageThatIsAMapFireTooUnlessTheyAreTakenBackOrContent) {
  short_span(llm::image, [](auto& m) { m.usage(Value::map({{"input_tokens", 5}, {"output_tokens", 7}})); });
  EXPECT_EQ(fired[Probe::tokens], 1U);
  short_span(llm::step, [](auto& m) { m.input_tokens(5).set("input_tokens", nullptr); });
  const Recorder handler{"llm.generate.stop"};
  short_span(llm::generate, [](auto& m) { m.content("output_tokens", 42); });
  EXPECT_EQ(fired[Probe::tokens], 1U);
}

// What runs inside a chat that has tokens, although it is not below it in the same request.
TEST_F(Tokens, AreNotThoseOfTheScopeAroundThemIfThatIsNotTheirParent) {
  const Context request = Context::make();
  const auto other_root = [&] {
    const ContextScope again{request};
    const Span second{llm::chat};
    generate(llm::generate);
  };
  const auto call_that_came_back = [] {
    const ContextScope served{Context::from_traceparent(Context::current().traceparent())};
    generate(nopspan::engine::request);
  };
  const auto scope_of_another_request = [] {
    const ContextScope other{Context::make()};
    generate(llm::generate);
  };
  const auto async_span_of_another_request = [] { AsyncSpan{llm::generate}.set("output_tokens", 9).end(); };
  for (const std::function<void()>& inside : std::vector<std::function<void()>>{
           other_root, call_that_came_back, scope_of_another_request, async_span_of_another_request}) {
    const Fired each;
    {
      const ContextScope here{request};
      Span chat{llm::chat};
      inside();
      chat.set("output_tokens", 9);
    }
    EXPECT_EQ(each[Probe::tokens], 2U);
  }
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
  short_span(llm::tool, [](auto& m) { m.content("tool_name", "secret"); });
  EXPECT_EQ(fired[Probe::tool_call], 2U);
}

TEST_F(FirstTokenProbe, FiresOnceASpan) {
  {
    Span span{llm::stream};
    span.first_token();
    span.first_token();
  }
  EXPECT_EQ(fired.all(), (Hits{{Probe::first_token, 1}}));
}

TEST_F(RequestOfAnEngine, FiresWhereAnEngineKnowsItsTimesAndNotForAnArrivalAlone) {
  Span{nopspan::engine::request}.set("arrival_ns", 1).set("preemptions", 0);
  EXPECT_EQ(fired[Probe::engine_request], 0U);
  AsyncSpan{nopspan::engine::request}
      .with<nopspan::engine::RequestFields>([](auto& m) { m.queue_ns(1).prefill_ns(2).decode_ns(3); })
      .end();
  EXPECT_EQ(fired[Probe::engine_request], 1U);
}

TEST_F(Retry, FiresTheSameProbeAloneWhicheverFunctionEmitsIt) {
  llm::retry([](auto& r) { r.attempt(1).delay_ms(20).reason("timeout"); });
  llm::execute("adapter.retry", [](Fields& f) { f.set("attempt", 1); });
  nopspan::genai::retry(1);
  EXPECT_EQ(fired.all(), (Hits{{Probe::retry, 3}}));
}

TEST(Probes, OfAHandlersFailureIsAnEventOfTheSpan) {
  const Recorder recorder{"telemetry.handler.failure"};
  const RaisedGate points(RaisedGate::points);
  attach_ok("bad", "work.start", [](const Event&) { throw 7; });
  const Fired fired;
  const Span span{"work"};
  EXPECT_EQ(fired.all(), (Hits{{Probe::event, 1}}));
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
  for (const Probe probe : {Probe::span_start, Probe::span_stop, Probe::tokens, Probe::tool_call, Probe::first_token}) {
    EXPECT_EQ(fired[probe], 1U) << static_cast<int>(probe);
  }
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
    EXPECT_EQ(fired.all(), Hits());
    { const Span own{"own"}; }
    EXPECT_EQ(fired[Probe::span_start], 1U);
    EXPECT_EQ(nopspan::detail::thread_state()->sequence[0], 1U);  // a new sequence_id begins at 0
  });
}

}  // namespace
