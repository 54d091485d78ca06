// SPDX-License-Identifier: Apache-2.0
// The probes that fire for agent catalogue events whose names are known only at run time.
#include "fired.h"
#include "raised_gate.h"
#include "recorded.h"

#include "genai/attributes.h"
#include "thread/thread_state.h"

#include <nopspan/agent.h>
#include <nopspan/event.h>
#include <nopspan/stats.h>

#include <cstring>
#include <string>
#include <string_view>

namespace {

namespace agent = nopspan::agent;
using nopspan::detail::Probe;

const Value kLasted = Value::map({{"duration", 5}});
const Value kTool = Value::map({{"tool_name", "x"}, {"reason", Value::map({{"type", "T"}})}});

TEST(AgentProbes, OfTheEndOfASpanAreAWholeSpans) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(agent::emit("agent.tool.stop", kLasted, kTool), Errc::ok);
  EXPECT_EQ(agent::emit("agent.compaction.stop", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(fired[Probe::span_start], 3U);
  EXPECT_EQ(fired[Probe::span_stop], 3U);
  EXPECT_EQ(fired.in_all(), 6U);
}

TEST(AgentProbes, OfAnExceptionSayItIsOne) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  EXPECT_EQ(agent::emit("agent.tool.exception", kLasted, kTool), Errc::ok);
  EXPECT_EQ(agent::emit_tool_exception(Value::map(), "timeout", 1), Errc::ok);
  EXPECT_EQ(fired[Probe::span_start], 2U);
  EXPECT_EQ(fired[Probe::span_stop], 2U);
  EXPECT_EQ(fired[Probe::span_exception], 2U);
}

TEST(AgentProbes, OfWhatIsNoEndOfASpanAreAnEvent) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Fired fired;
  EXPECT_EQ(agent::emit_tool_start(kTool), Errc::ok);
  EXPECT_EQ(agent::emit("agent.llm.start", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(agent::emit("agent.llm.stop", Value::map(), Value::map()), Errc::ok);  // without a duration
  EXPECT_EQ(agent::emit("agent.operator.iteration_start", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(agent::emit("agent.coordinator.done", kLasted, Value::map()), Errc::ok);
  agent::operators::iteration_start([](auto& e) { e.iteration(1); });
  EXPECT_EQ(fired[Probe::event], 6U);
  EXPECT_EQ(fired.in_all(), 6U);
}

TEST(AgentProbes, OfAToolsEndIncludeItsCall) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  EXPECT_EQ(agent::emit_tool_stop(kTool, 1, 1), Errc::ok);
  EXPECT_EQ(agent::emit_tool_stop(Value::map(), 1, 1), Errc::ok);  // a tool without a name
  EXPECT_EQ(fired[Probe::tool_call], 1U);
  EXPECT_EQ(fired.in_all(), 1U);
}

TEST(AgentProbes, OfAToolInsideAnotherFireItsCallOnce) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  agent::tool_span([](auto& m) { m.tool_name("outer"); },
                   [] { EXPECT_EQ(agent::emit_tool_stop(kTool, 1, 1), Errc::ok); });
  EXPECT_EQ(fired[Probe::tool_call], 1U);
}

TEST(AgentProbes, AndHandlersAreToldOnceEach) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Recorder recorder(agent::event_names());
  const Counted differ(&nopspan::Stats::trace_ids_differ);
  const Fired fired;
  const Span around{agent::llm};
  EXPECT_EQ(agent::emit("agent.tool.stop", kLasted, Value::map({{"tool_name", "x"}, {"trace_id", "other"}})), Errc::ok);
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
  EXPECT_EQ(agent::emit("agent.tool.stop", kLasted, Value::map({{"trace_id", "other"}})), Errc::ok);
  EXPECT_EQ(differ.times(), 1U);
}

// The attributes of this thread's last probe hit, in bytes.
class ProbeAttributes {
 public:
  ProbeAttributes() {
    {
      const RaisedGate tracer(RaisedGate::spans);
      const Span span{"work", [](Fields& f) { f.set("rows", 3); }};  // the first one allocates the bytes
    }
    std::memset(bytes(), 0, nopspan::detail::kMaxAttributesBytes);
  }
  [[nodiscard]] bool have(std::string_view text) const {
    const std::string_view all(reinterpret_cast<const char*>(bytes()), nopspan::detail::kMaxAttributesBytes);
    return all.find(text) != std::string_view::npos;
  }

 private:
  static unsigned char* bytes() { return nopspan::detail::thread_state()->attribute_bytes; }
};

const Value kCall = Value::map({{"model", "gpt"}, {"input_tokens", 3}, {"finish_reason", "stop"}});

TEST(AgentProbes, OfAnEndHaveTheAttributesThatHandlersSee) {
  const RaisedGate tracer(RaisedGate::spans);
  const Recorder recorder{"agent.llm.stop"};
  const ProbeAttributes probe;
  EXPECT_EQ(agent::emit("agent.llm.stop", Value::map({{"duration", 5}, {"system_time", 9}, {"cost", 7}}), kCall),
            Errc::ok);
  const nopspan::OwnedEvent event = recorder.events().at(0);
  EXPECT_THAT(event, AllOf(HasAttribute("gen_ai.operation.name", "chat"), HasAttribute("gen_ai.request.model", "gpt")));
  EXPECT_THAT(event, AllOf(HasAttribute("gen_ai.usage.input_tokens", 3), HasAttribute("cost", 7)));
  event->attributes().for_each(
      [&](std::string_view key, const nopspan::ValueView&) { EXPECT_TRUE(probe.have(key)) << key; });
  for (const char* time : {"duration", "system_time"}) {
    EXPECT_FALSE(event->attributes().find(time).exists()) << time;
    EXPECT_FALSE(probe.have(time)) << time;
  }
  EXPECT_EQ(event->measurements().copy(), Value::map({{"duration", 5}, {"system_time", 9}, {"cost", 7}}));
  EXPECT_EQ(event->metadata().copy(), kCall);
}

TEST(AgentProbes, OfAnExceptionHaveTheAttributesThatHandlersSee) {
  const RaisedGate tracer(RaisedGate::spans);
  const Recorder recorder{"agent.tool.exception"};
  const ProbeAttributes probe;
  EXPECT_EQ(agent::emit_tool_exception(kTool, Value::map({{"type", "app::Timeout"}}), 1, "exit"), Errc::ok);
  const nopspan::OwnedEvent event = recorder.events().at(0);
  EXPECT_THAT(event, AllOf(HasAttribute("error.type", "app::Timeout"), HasAttribute("nopspan.exception.kind", "exit")));
  for (const char* text : {"error.type", "app::Timeout", "nopspan.exception.kind"})
    EXPECT_TRUE(probe.have(text)) << text;
  EXPECT_THAT(event, HasStatus(Status::exception));
}

TEST(AgentProbes, AndHandlersGetTheirAttributesWithoutTheOthers) {
  const Recorder recorder{"agent.llm.stop"};
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, kCall), Errc::ok);
  EXPECT_THAT(recorder.events().at(0), HasAttribute("gen_ai.request.model", "gpt"));
}

TEST(AgentProbes, WithoutHandlersHaveTheirAttributes) {
  const RaisedGate tracer(RaisedGate::spans);
  const ProbeAttributes probe;
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, kCall), Errc::ok);
  EXPECT_TRUE(probe.have("gen_ai.request.model"));
}

TEST(AgentProbes, OfAToolsStartHaveNoSystemTime) {
  const RaisedGate tracer(RaisedGate::points);
  const Recorder recorder{"agent.tool.start"};
  const ProbeAttributes probe;
  EXPECT_EQ(agent::emit_tool_start(kTool), Errc::ok);
  EXPECT_TRUE(probe.have("gen_ai.tool.name"));
  EXPECT_FALSE(probe.have("system_time"));
  EXPECT_GT(recorder.events().at(0)->system_time_ns(), 0);
  EXPECT_THAT(recorder.events().at(0), LacksAttribute("system_time"));
  EXPECT_EQ(agent::emit("agent.tool.start", Value::map({{"system_time", 7}}), kTool), Errc::ok);
  EXPECT_FALSE(probe.have("system_time"));
  EXPECT_EQ(recorder.events().at(1)->system_time_ns(), 7);
}

TEST(AgentProbes, AndHandlersHaveTheFieldsOfOneSetting) {
  const RaisedGate spans(RaisedGate::spans);
  const RaisedGate points(RaisedGate::points);
  const Recorder recorder(agent::event_names());
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const Counted clamped(&nopspan::Stats::values_clamped);
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, Value::map({{std::string(300, 'k'), 1}, {"input_tokens", -1}})),
            Errc::ok);
  EXPECT_EQ(dropped.times(), 1U);
  EXPECT_EQ(clamped.times(), 1U);
}

TEST(AgentProbes, AndHandlersSeeTheSameSpan) {
  const Recorder recorder{"agent.tool.stop"};
  const Span around{agent::llm};
  EXPECT_EQ(agent::emit_tool_stop(kTool, 1, 1), Errc::ok);
  EXPECT_EQ(recorder.events().at(0)->parent_id(), id_of(around));
  EXPECT_NE(recorder.events().at(0)->span_id(), id_of(around));
}

TEST(AgentProbes, TakeForAnErrorTypeWhatLooksLikeOneAlone) {
  const Recorder recorder{"agent.tool.exception"};
  const auto type_of = [&](const Value& type) {
    EXPECT_EQ(agent::emit_tool_exception(Value::map(), Value::map({{"type", type}}), 1), Errc::ok);
    return std::string(recorder.events().back()->attributes().find("error.type").as_string());
  };
  for (const std::string& type : {std::string("timeout"), std::string("std::runtime_error"), std::string("a.b<C_1>"),
                                  std::string("std::map<int, (anonymous namespace)::Key>"), std::string(63, 'x')}) {
    EXPECT_EQ(type_of(type), type);
  }
  for (const Value& none :
       {Value("user said: my password is x"), Value(""), Value("a\nb"), Value("\u00e9"), Value(7), Value("a=b")}) {
    EXPECT_EQ(type_of(none), "_OTHER");
  }
}

TEST(AgentProbes, TakeDurationsOfAnySort) {
  const RaisedGate tracer(RaisedGate::spans);
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const Fired fired;
  for (const Value& duration : {Value(INT64_MIN), Value(-1), Value(INT64_MAX), Value(1e300), Value(-0.5),
                                Value(__builtin_nan("")), Value(__builtin_inf())}) {
    EXPECT_EQ(
        agent::emit("agent.llm.stop", Value::map({{"duration", duration}, {"system_time", 1}, {"monotonic_time", 1}}),
                    Value::map()),
        Errc::ok);
  }
  EXPECT_EQ(fired[Probe::span_stop], 7U);
  EXPECT_EQ(dropped.times(), 0U);
}

}  // namespace
