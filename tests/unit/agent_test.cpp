// SPDX-License-Identifier: Apache-2.0
// The agent catalogue: its spans as handlers receive them, and its events with run-time names.
#include "recorded.h"

#include <nopspan/agent.h>

#include <map>
#include <memory>
#include <optional>

namespace {

namespace agent = nopspan::agent;
using ::testing::AllOf;

// --- Spans

TEST(AgentSpan, OfACompactionCountsMessagesAtBothEnds) {
  const SpanRecorder recorder("agent.compaction");
  Span{agent::compaction,
       [](auto& m) { m.trace_id("t").iteration(3).strategy("summarize").config(Value::map()).message_count(40); }}
      .with<agent::CompactionFields>([](auto& m) { m.message_count(6); });
  EXPECT_THAT(keys_of(recorder.start()->measurements()), ElementsAre("message_count", "system_time"));
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("message_count", "system_time"));
  EXPECT_THAT(recorder.start(), HasMeasurement("message_count", 40));
  EXPECT_THAT(recorder.stop(), HasMeasurement("message_count", 6));
  EXPECT_GE(recorder.stop()->system_time_ns(), recorder.start()->system_time_ns());
  EXPECT_THAT(recorder.start(), HasAttribute("nopspan.message_count", 40));
  EXPECT_THAT(recorder.start(), LacksAttribute("nopspan.message_count_before"));
  EXPECT_THAT(recorder.stop(), HasAttribute("nopspan.message_count", 6));
  EXPECT_THAT(recorder.stop(), HasAttribute("nopspan.message_count_before", 40));
  EXPECT_THAT(recorder.stop(), LacksMetadata("message_count_before"));
}

TEST(AgentSpan, OfACompactionThatFailsStopsWithThatStatus) {
  const SpanRecorder recorder("agent.compaction");
  const auto compact = [](Span& span) {
    span.with<agent::CompactionFields>([](auto& m) { m.message_count(6); });
    throw std::runtime_error("boom");
  };
  EXPECT_THROW(nopspan::span(agent::compaction, compact), std::runtime_error);
  EXPECT_THAT(recorder.names(), ElementsAre("agent.compaction.start", "agent.compaction.stop"));
  EXPECT_THAT(keys_of(recorder.stop()->measurements()), ElementsAre("message_count", "system_time"));
  EXPECT_THAT(keys_of(recorder.stop()->metadata()), ElementsAre("parent_id", "request_id", "span_id"));
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::exception), HasAttribute("error.type", "std::runtime_error")));
}

TEST(AgentSpan, OfACompactionThatIsOverHasTheTimesThatWereGiven) {
  const SpanRecorder recorder("agent.compaction");
  nopspan::complete(agent::compaction, Context(), monotonic_ns() - 5'000'000'000, 2'000'000'000,
                    [](auto& m) { m.message_count(1); });
  EXPECT_EQ((recorder.stop()->system_time_ns() - recorder.start()->system_time_ns() + 500'000'000) / 1'000'000'000, 2);
}

TEST(AgentSpan, OfAnIterationIsItsStartToHandlers) {
  std::vector<std::string> names = Recorder::span_events({"agent.operator.iteration", "agent.coordinator.iteration"});
  names.insert(names.end(), {"agent.operator.iteration_start", "agent.coordinator.iteration_start"});
  const Recorder recorder(names);
  short_span(agent::operator_iteration,
             [](auto& m) { m.operator_name("ets").trace_id("t").iteration(1).operator_state("healthy"); });
  EXPECT_THROW(nopspan::span(agent::coordinator_iteration, [] { throw 7; }), int);
  ASSERT_THAT(recorder.names(), ElementsAre("agent.operator.iteration_start", "agent.coordinator.iteration_start"));
  EXPECT_THAT(keys_of(recorder.events()[0]->measurements()), ElementsAre("system_time"));
  EXPECT_THAT(keys_of(recorder.events()[0]->metadata()),
              ElementsAre("iteration", "operator", "operator_state", "parent_id", "request_id", "span_id", "trace_id"));
}

TEST(AgentSpan, OfAnIterationIsTheParentOfWhatHappensInIt) {
  const Recorder recorder{"agent.operator.iteration_start", "agent.tool.start", "agent.operator.think"};
  {
    const Span iteration{agent::operator_iteration};
    agent::tool_span([](auto&) {}, [] {});
    agent::operators::think([](auto& e) { e.thought("hm"); });
  }
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[1], IsChildOf(events[0]));
  EXPECT_EQ(events[2]->span_id(), events[0]->span_id());
}

// --- Helpers

TEST(AgentEvent, BelongsToTheSpanThatIsNamed) {
  const Recorder recorder{"agent.operator.done"};
  AsyncSpan slot{agent::operator_iteration};
  const Context context = slot.context();
  agent::operators::done(slot, [](auto& e) { e.operator_name("o"); });
  agent::operators::done(context, [](auto& e) { e.operator_name("o"); });
  {
    const Span scope{agent::llm};
    agent::operators::done(scope, [](auto& e) { e.operator_name("o"); });
    agent::operators::done();
    const auto events = events_of(recorder, 4);
    EXPECT_EQ(events[0]->span_id(), id_of(slot));
    EXPECT_EQ(events[1]->span_id(), id_of(slot));
    EXPECT_EQ(events[2]->span_id(), id_of(scope));
    EXPECT_EQ(events[3]->span_id(), id_of(scope));
    EXPECT_THAT(keys_of(events[3]->metadata()), ElementsAre("trace_id"));
  }
  slot.end();
}

TEST(AgentEvent, TakesItsListsAsVectors) {
  const Recorder recorder{"agent.coordinator.*"};
  const std::vector<std::string> texts{"a", "b"};
  agent::coordinator::invoke_operators([&](auto& e) { e.skills(texts); });
  agent::coordinator::update_notification_statuses([&](auto& e) { e.notification_ids(texts); });
  ASSERT_THAT(recorder.events(), SizeIs(2));
  EXPECT_THAT(recorder.events()[0], HasMetadata("skills", Value::list({"a", "b"})));
  EXPECT_THAT(recorder.events()[1], HasMetadata("notification_ids", Value::list({"a", "b"})));
}

TEST(AgentEvent, InsideARunHasItsTraceId) {
  const Recorder recorder{"agent.operator.wait", "agent.operator.loop_stopped", "agent.llm.stop"};
  {
    const Span run{agent::operator_iteration, [](auto& m) { m.trace_id("abc"); }};
    agent::operators::wait([](auto& e) { e.ms(5); });
    agent::operators::loop_stopped([](auto& e) { e.final_state("healthy"); });
    const Span call{agent::llm};
  }
  agent::operators::wait([](auto& e) { e.ms(5); });
  const auto events = events_of(recorder, 4);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(events[i]->request_id(), "abc");
    EXPECT_THAT(events[i], AllOf(HasMetadata("trace_id", "abc"), LacksAttribute("nopspan.trace_id")));
  }
  EXPECT_THAT(events[3], LacksMetadata("trace_id"));
}

TEST(AgentEvent, IsNotEvaluatedWhenTheGateIsDown) {
  agent::operators::think([](auto&) { FAIL(); });
  agent::tool_span([](auto&) { FAIL(); }, [] {});
  EXPECT_EQ(agent::emit("agent.operator.done", Value::map(), Value::map()), Errc::ok);
}

TEST(AgentEvent, WhoseCallableThrowsIsCountedAndEmitted) {
  const Counted failures(&nopspan::Stats::metadata_failures);
  const Recorder recorder{"agent.operator.done"};
  agent::operators::done([](auto& e) {
    e.operator_name("o");
    throw 7;
  });
  EXPECT_EQ(failures.times(), 1U);
  EXPECT_THAT(recorder.events(), ElementsAre(HasMetadata("operator", "o")));
}

// --- emit()

TEST(AgentEmit, EmitsWhatIsGivenAndNothingElse) {
  const Recorder recorder(agent::event_names());
  const Span around{agent::tool};
  EXPECT_EQ(agent::emit("agent.coordinator.done", Value::map({{"system_time", 9}, {"x", 0.5}}),
                        Value::map({{"own", Value::list({1})}, {"trace_id", 7}})),
            Errc::ok);
  const auto events = events_of(recorder, 1, "agent.coordinator.done");
  EXPECT_EQ(events[0]->measurements().copy(), Value::map({{"system_time", 9}, {"x", 0.5}}));
  EXPECT_EQ(events[0]->metadata().copy(), Value::map({{"own", Value::list({1})}, {"trace_id", 7}}));
  EXPECT_EQ(events[0]->span_id(), id_of(around));
}

TEST(AgentEmit, KeepsAsContentWhatAnyEventOfTheCatalogueDoes) {
  const Recorder recorder{"agent.operator.wait", "agent.coordinator.loop_stopped"};
  const Value metadata = Value::map({{"reason", "r"}, {"ms", 1}});
  for (const char* event : {"agent.operator.wait", "agent.coordinator.loop_stopped"}) {
    EXPECT_EQ(agent::emit(event, Value::map(), metadata), Errc::ok);
  }
  const auto events = events_of(recorder, 2);
  EXPECT_TRUE(events[0]->metadata("reason").is_content()) << "it has no reason of its own";
  EXPECT_FALSE(events[1]->metadata("reason").is_content());
  EXPECT_FALSE(events[0]->metadata("ms").is_content());
}

TEST(AgentEmit, EmitsTheEndOfASpanOnce) {
  const Recorder recorder(agent::event_names());
  EXPECT_EQ(agent::emit("agent.llm.stop", Value::map({{"duration", 5}}), Value::map({{"response", "r"}})), Errc::ok);
  EXPECT_EQ(agent::emit("agent.llm.exception", Value::map({{"duration", 5}}), Value::map({{"reason", "r"}})), Errc::ok);
  EXPECT_EQ(agent::emit("agent.compaction.stop", Value::map({{"system_time", 5}, {"message_count", 6}}), Value::map()),
            Errc::ok);
  ASSERT_THAT(recorder.names(), ElementsAre("agent.llm.stop", "agent.llm.exception", "agent.compaction.stop"));
  EXPECT_EQ(recorder.events()[0]->measurements().copy(), Value::map({{"duration", 5}}));
  EXPECT_EQ(recorder.events()[1]->metadata().copy(), Value::map({{"reason", "r"}}));
  EXPECT_EQ(recorder.events()[2]->measurements().copy(), Value::map({{"system_time", 5}, {"message_count", 6}}));
}

TEST(AgentEmit, TakesTimesThatAreRealNumbers) {
  const Recorder recorder(agent::event_names());
  for (const double ns : {5.0e6, -0.5, 1e300, -1e300, kNaN}) {
    const Value times = Value::map({{"duration", ns}, {"monotonic_time", ns}, {"system_time", ns}});
    EXPECT_EQ(agent::emit("agent.llm.stop", times, Value::map()), Errc::ok);
  }
  std::vector<std::int64_t> found;
  for (const auto& event : recorder.events()) {
    found.push_back(event->duration_ns());
    EXPECT_EQ(event->monotonic_time_ns(), event->duration_ns());
    EXPECT_EQ(event->system_time_ns(), event->duration_ns());
  }
  EXPECT_THAT(found, ElementsAre(5'000'000, 0, INT64_MAX, INT64_MIN, 0));
}

TEST(AgentEmit, RefusesWhatTheCatalogueDoesNotKnow) {
  const Recorder recorder(agent::event_names());
  const std::string long_name(1U << 20U, 'x');
  for (const nopspan::Text name : {nopspan::Text("agent.llm"), nopspan::Text("llm.start"), nopspan::Text(""),
                                   nopspan::Text(), nopspan::Text("agent.operator.iteration"), nopspan::Text(long_name),
                                   nopspan::Text("agent.llm.stop\0", 15), nopspan::Text("agent.llm.Stop")}) {
    EXPECT_EQ(agent::emit(name, Value::map(), Value::map()), Errc::invalid_argument);
  }
  EXPECT_EQ(recorder.size(), 0U);
}

TEST(AgentEmit, RefusesMapsThatAreNone) {
  const Recorder recorder(agent::event_names());
  for (const Value& none : {Value(), Value(1), Value("map"), Value::list()}) {
    EXPECT_EQ(agent::emit("agent.llm.stop", none, Value::map()), Errc::invalid_argument);
    EXPECT_EQ(agent::emit("agent.llm.stop", Value::map(), none), Errc::invalid_argument);
    EXPECT_EQ(agent::emit_tool_start(none), Errc::invalid_argument);
    EXPECT_EQ(agent::emit_tool_stop(none, 1, 1), Errc::invalid_argument);
    EXPECT_EQ(agent::emit_tool_exception(none, 1, 1), Errc::invalid_argument);
  }
  for (const Value& no_number : {Value(), Value("1"), Value(true), Value::list(), Value::map()}) {
    EXPECT_EQ(agent::emit("agent.llm.stop", Value::map({{"duration", no_number}}), Value::map()),
              Errc::invalid_argument);
  }
  EXPECT_EQ(recorder.size(), 0U);
}

TEST(AgentEmit, TakesBadValuesAsTheyAre) {
  const Recorder recorder(agent::event_names());
  const Counted dropped(&nopspan::Stats::fields_dropped);
  Value deep;
  for (int i = 0; i < 1000; ++i) deep = Value::list({std::move(deep)});
  const std::string big(1U << 20U, 'x');
  const Value metadata = Value::map({{"deep", deep}, {"response", big}, {"intent", "bad\xff"}, {"", 1}});
  EXPECT_EQ(agent::emit("agent.llm.stop", Value::map({{"duration", INT64_MIN}, {"other", -0.0}}), metadata), Errc::ok);
  const auto events = events_of(recorder, 1);
  EXPECT_EQ(events[0]->duration_ns(), INT64_MIN);
  EXPECT_EQ(events[0]->metadata("response").as_string(), big);
  EXPECT_THAT(events[0], AllOf(HasMetadata("intent", "bad\xff"), LacksMetadata("deep")));
  EXPECT_EQ(dropped.times(), 2U);  // the value that is nested too deeply, and the invalid key
}

TEST(AgentEmit, WorksInsideAHandler) {
  const Recorder recorder(agent::event_names());
  attach_ok("answer", "agent.operator.wait", [](const nopspan::Event&) {
    EXPECT_EQ(agent::emit("agent.operator.done", Value::map(), Value::map({{"operator", "o"}})), Errc::ok);
    agent::tool_span(Value::map(), [] { return 1; });
  });
  agent::operators::wait([](auto& e) { e.ms(1); });
  detach_ok("answer");
  EXPECT_THAT(recorder.names(),
              ElementsAre("agent.operator.wait", "agent.operator.done", "agent.tool.start", "agent.tool.stop"));
}

// --- emit_tool_*

TEST(AgentTool, StopHasTheTimeSinceItsStart) {
  const Recorder recorder(agent::event_names());
  const std::uint64_t start = monotonic_ns() - 3'000'000'000;
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"tool_name", "x"}, {"result", "old"}}), Value::map({{"n", 1}}), start),
            Errc::ok);
  const auto events = recorder.events();
  ASSERT_THAT(recorder.names(), ElementsAre("agent.tool.stop"));
  EXPECT_THAT(keys_of(events[0]->measurements()), ElementsAre("duration"));
  EXPECT_GE(events[0]->duration_ns(), 3'000'000'000);
  EXPECT_LT(events[0]->duration_ns(), 60'000'000'000);
  EXPECT_EQ(events[0]->metadata().copy(), Value::map({{"tool_name", "x"}, {"result", Value::map({{"n", 1}})}}));
}

TEST(AgentTool, WithoutAStartThatHasBeenTookNoTime) {
  const Recorder recorder(agent::event_names());
  for (const std::uint64_t start : {std::uint64_t{0}, monotonic_ns() + 3'600'000'000'000, UINT64_MAX,
                                    static_cast<std::uint64_t>(std::int64_t{-1})}) {
    EXPECT_EQ(agent::emit_tool_stop(Value::map(), nullptr, start), Errc::ok);
    EXPECT_EQ(agent::emit_tool_exception(Value::map(), nullptr, start), Errc::ok);
  }
  const auto events = events_of(recorder, 8);
  for (const auto& event : events) EXPECT_THAT(event, HasMeasurement("duration", 0));
}

TEST(AgentTool, ExceptionMayHaveNoKind) {
  const Recorder recorder{"agent.tool.exception"};
  EXPECT_EQ(agent::emit_tool_exception(Value::map({{"stacktrace", "z"}}), 5, 1, nullptr), Errc::ok);
  EXPECT_THAT(recorder.events(), ElementsAre(AllOf(HasMetadata("kind", nullptr), HasMetadata("reason", 5),
                                                   HasMetadata("stacktrace", Value::list()))));
}

TEST(AgentTool, ExceptionOfALongKindIsOfNoMemoryOfItsOwn) {
  const Recorder other{"agent.tool.stop"};  // listens to a different event
  const Value metadata = Value::map();
  EXPECT_EQ(agent::emit_tool_exception(metadata, nullptr, 1, "a kind that no short string holds"), Errc::ok);
  const std::size_t before = allocations();
  EXPECT_EQ(agent::emit_tool_exception(metadata, nullptr, 1, "a kind that no short string holds"), Errc::ok);
  EXPECT_EQ(allocations(), before);
}

// --- tool_span()

TEST(AgentToolSpan, HasWhatTheToolReturnedAsResult) {
  const SpanRecorder recorder("agent.tool");
  EXPECT_EQ(agent::tool_span([](auto& m) { m.tool_name("x"); }, [] { return 4; }), 4);
  EXPECT_EQ(agent::tool_span(Value::map({{"tool_name", "y"}}), [] { return std::string("text"); }), "text");
  EXPECT_EQ(agent::tool_span(Value::map(), [] { return Value::list({"ok"}); }), Value::list({"ok"}));
  EXPECT_TRUE(agent::tool_span(Value::map(), [] { return true; }));
  EXPECT_STREQ(agent::tool_span(Value::map(), [](Span&) -> const char* { return nullptr; }), nullptr);
  EXPECT_THAT(agent::tool_span(Value::map(), [] { return std::vector<std::string>({"a", "b"}); }), SizeIs(2));
  EXPECT_EQ(agent::tool_span(Value::map(), [] { return std::optional<int>(5); }), 5);
  EXPECT_EQ(agent::tool_span(Value::map(), [] { return nopspan::Status::error; }), nopspan::Status::error);
  const std::map<std::string, int> map = {{"a", 1}};
  EXPECT_EQ(&agent::tool_span(
                Value::map(), [&]() -> auto& { return map; }),
            &map);
  const auto stops = events_of(recorder, 9, "agent.tool.stop");
  EXPECT_THAT(stops[0], AllOf(HasMetadata("tool_name", "x"), HasMetadata("result", 4)));
  EXPECT_THAT(stops[1], AllOf(HasMetadata("tool_name", "y"), HasMetadata("result", "text")));
  EXPECT_THAT(stops[2], HasMetadata("result", Value::list({"ok"})));
  EXPECT_THAT(stops[3], HasMetadata("result", true));
  EXPECT_THAT(stops[4], HasMetadata("result", nullptr));
  EXPECT_THAT(stops[5], HasMetadata("result", Value::list({"a", "b"})));
  EXPECT_THAT(stops[6], HasMetadata("result", 5));
  EXPECT_THAT(stops[7], HasMetadata("result", "error"));
  EXPECT_THAT(stops[8], HasMetadata("result", Value::map({{"a", 1}})));
  EXPECT_THAT(keys_of(stops[0]->measurements()), ElementsAre("duration"));
}

TEST(AgentToolSpan, ThatThrowsHasTheKeysOfEmitToolException) {
  const Recorder recorder{"agent.tool.exception", "agent.llm.exception"};
  EXPECT_THROW(agent::tool_span(Value::map({{"tool_name", "x"}}), []() -> int { throw 7; }), int);
  EXPECT_THROW(nopspan::span(agent::llm, [] { throw 7; }), int);
  EXPECT_EQ(agent::emit_tool_exception(Value::map({{"tool_name", "x"}}), "b", 1), Errc::ok);
  for (const auto& event : events_of(recorder, 3)) {
    EXPECT_THAT(event, AllOf(HasMetadata("stacktrace", Value::list()), LacksAttribute("nopspan.stacktrace")));
    EXPECT_TRUE(event->metadata("stacktrace").is_content());
  }
}

struct NonMovable {
  explicit NonMovable(int number) : n(number) {}
  NonMovable(NonMovable&&) = delete;
  int n;
};

TEST(AgentToolSpan, ReturnsWhatIsNoMetadata) {
  const SpanRecorder recorder("agent.tool");
  EXPECT_EQ(*agent::tool_span(Value::map(), [] { return std::make_unique<int>(7); }), 7);
  EXPECT_EQ(agent::tool_span(Value::map(), [] { return NonMovable(8); }).n, 8);
  agent::tool_span(Value::map(), [] {});
  std::vector<std::unique_ptr<int>> list;
  EXPECT_EQ(&agent::tool_span(
                Value::map(), [&]() -> auto& { return list; }),
            &list);
  const auto stops = events_of(recorder, 4, "agent.tool.stop");
  for (const auto& stop : stops) EXPECT_THAT(stop, LacksMetadata("result"));
}

TEST(AgentToolSpan, ReturnsReferencesAsSuch) {
  const SpanRecorder recorder("agent.tool");
  std::string text = "here";
  EXPECT_EQ(&agent::tool_span(Value::map(), [&]() -> std::string& { return text; }), &text);
  EXPECT_EQ(agent::tool_span(Value::map(), [&]() -> std::string&& { return std::move(text); }), "here");
  EXPECT_THAT(recorder.events("agent.tool.stop")[0], HasMetadata("result", "here"));
}

TEST(AgentToolSpan, TakesAResultThatTheToolSaysItself) {
  const SpanRecorder recorder("agent.tool");
  const auto tool = [] { return nopspan::result(std::make_unique<int>(7), [](auto& m) { m.set("result", "seven"); }); };
  EXPECT_EQ(*agent::tool_span([](auto&) {}, tool), 7);
  EXPECT_THAT(recorder.stop(), HasMetadata("result", "seven"));
}

TEST(AgentToolSpan, OfNoMapHasNoMetadataAndRunsTheTool) {
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const SpanRecorder recorder("agent.tool");
  EXPECT_EQ(agent::tool_span(Value("none"), [] { return 1; }), 1);
  EXPECT_THAT(keys_of(recorder.start()->metadata()), ElementsAre("parent_id", "request_id", "span_id"));
  EXPECT_EQ(dropped.times(), 1U);
}

}  // namespace
