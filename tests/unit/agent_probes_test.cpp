// SPDX-License-Identifier: Apache-2.0
// Which probes the agent catalogue's events of run-time names fire.
#include "counted.h"
#include "fired.h"
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/stats.h>
#include <nopspan/value.h>

namespace {

namespace agent = nopspan::agent;
using nopspan::Span;
using nopspan::Value;
using nopspan::detail::Probe;
using nopspan::testing::Recorder;
using ::testing::ElementsAre;

const Value kLasted = Value::map({{"duration", 5}});
const Value kTool = Value::map({{"tool_name", "x"}, {"reason", Value::map({{"type", "T"}})}});

TEST(AgentProbes, OfTheEndOfASpanAreAWholeSpans) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  agent::emit("agent.llm.stop", kLasted, Value::map());
  agent::emit("agent.tool.stop", kLasted, kTool);
  agent::emit("agent.compaction.stop", kLasted, Value::map());
  EXPECT_EQ(fired[Probe::span_start], 3U);
  EXPECT_EQ(fired[Probe::span_stop], 3U);
  EXPECT_EQ(fired.in_all(), 6U);
}

TEST(AgentProbes, OfAnExceptionSayItIsOne) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  agent::emit("agent.tool.exception", kLasted, kTool);
  agent::emit_tool_exception(Value::map(), "timeout", 1);
  EXPECT_EQ(fired[Probe::span_start], 2U);
  EXPECT_EQ(fired[Probe::span_stop], 2U);
  EXPECT_EQ(fired[Probe::span_exception], 2U);
}

TEST(AgentProbes, OfWhatIsNoEndOfASpanAreAnEvent) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Fired fired;
  agent::emit_tool_start(kTool);
  agent::emit("agent.llm.start", kLasted, Value::map());
  agent::emit("agent.llm.stop", Value::map(), Value::map());  // without a duration
  agent::emit("agent.operator.iteration_start", kLasted, Value::map());
  agent::emit("agent.coordinator.done", kLasted, Value::map());
  agent::operators::iteration_start([](auto& e) { e.iteration(1); });
  EXPECT_EQ(fired[Probe::event], 6U);
  EXPECT_EQ(fired.in_all(), 6U);
}

TEST(AgentProbes, OfAToolsEndIncludeItsCall) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  agent::emit_tool_stop(kTool, 1, 1);
  agent::emit_tool_stop(Value::map(), 1, 1);  // a tool of no name
  EXPECT_EQ(fired[Probe::tool_call], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
}

TEST(AgentProbes, OfAToolInsideAnotherFireItsCallOnce) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  agent::tool_span([](auto& m) { m.tool_name("outer"); }, [] { agent::emit_tool_stop(kTool, 1, 1); });
  EXPECT_EQ(fired[Probe::tool_call], 1U);
}

TEST(AgentProbes, AndHandlersAreToldOnceEach) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Recorder recorder(agent::event_names());
  const Counted differ(&nopspan::Stats::trace_ids_differ);
  const Fired fired;
  const Span around{agent::llm};
  agent::emit("agent.tool.stop", kLasted, Value::map({{"tool_name", "x"}, {"trace_id", "other"}}));
  EXPECT_THAT(recorder.names(), ElementsAre("agent.llm.start", "agent.tool.stop"));
  EXPECT_EQ(recorder.events()[1]->measurements().copy(), kLasted);
  EXPECT_EQ(fired[Probe::span_start], 2U);
  EXPECT_EQ(fired[Probe::span_stop], 1U);
  EXPECT_EQ(fired[Probe::tool_call], 1U);
  EXPECT_EQ(fired[Probe::event], 0U);
  EXPECT_EQ(differ.times(), 1U);
}

TEST(AgentProbes, CountATraceIdThatDiffersWithoutHandlersToo) {
  const RaisedGate tracer(RaisedGate::spans);
  const Counted differ(&nopspan::Stats::trace_ids_differ);
  const Span around{agent::llm};
  agent::emit("agent.tool.stop", kLasted, Value::map({{"trace_id", "other"}}));
  EXPECT_EQ(differ.times(), 1U);
}

TEST(AgentProbes, TakeDurationsOfAnySort) {
  const RaisedGate tracer(RaisedGate::spans);
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const Fired fired;
  for (const Value& duration : {Value(INT64_MIN), Value(-1), Value(INT64_MAX), Value(1e300), Value(-0.5),
                                Value(__builtin_nan("")), Value(__builtin_inf())}) {
    agent::emit("agent.llm.stop", Value::map({{"duration", duration}, {"system_time", 1}, {"monotonic_time", 1}}),
                Value::map());
  }
  EXPECT_EQ(fired[Probe::span_stop], 7U);
  EXPECT_EQ(dropped.times(), 0U);
}

}  // namespace
