// SPDX-License-Identifier: Apache-2.0
// Each typed helper of the agent catalogue sets the keys that the catalogue lists, with the listed types, and handlers
// receive these keys. Keys that the catalogue marks as content are set as content. tests/cases/run/agent_catalogue.json
// has the events as Beamlens' documentation lists them, and its reader compares the catalogue with them.
#include "fired.h"
#include "raised_gate.h"
#include "recorded.h"

#include "genai/attributes.h"
#include "thread/thread_state.h"

#include <nopspan/agent.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <set>

namespace {

namespace agent = nopspan::agent;
using agent::EventDescription;
using agent::FieldDescription;
using agent::FieldType;

struct Written {
  Value::Type type;
  bool content;
};
using Keys = std::map<std::string, Written>;

// The metadata that handlers receive.
Keys delivered_by(const nopspan::OwnedEvent& event) {
  Keys keys;
  event->metadata().for_each([&](std::string_view key, nopspan::ValueView value) {
    keys[std::string(key)] = {value.type(), value.is_content()};
  });
  return keys;
}

const EventDescription& described(std::string_view name) {
  for (const EventDescription& event : agent::catalogue()) {
    if (event.name.view() == name) return event;
  }
  throw std::out_of_range(std::string(name));
}

bool may_be(FieldType type, Value::Type value) {
  switch (type) {
    case FieldType::symbol:
    case FieldType::string:
    case FieldType::process_id:
      return value == Value::Type::string;
    case FieldType::integer:
    case FieldType::uint:
      return value == Value::Type::integer;
    case FieldType::boolean:
      return value == Value::Type::boolean;
    case FieldType::list:
    case FieldType::string_list:
    case FieldType::symbol_list:
      return value == Value::Type::list;
    case FieldType::map:
    case FieldType::record:
      return value == Value::Type::map;
    case FieldType::any:
      return true;
  }
  return false;
}

void expect_same_keys(const std::vector<FieldDescription>& fields, Keys keys, std::string_view what) {
  for (const FieldDescription& field : fields) {
    const auto found = keys.find(std::string(field.key));
    if (found == keys.end()) {
      ADD_FAILURE() << what << " does not set " << field.key;
      continue;
    }
    EXPECT_TRUE(may_be(field.type, found->second.type))
        << what << ' ' << field.key << " is no " << to_string(field.type);
    EXPECT_EQ(found->second.content, field.content) << what << ' ' << field.key;
    keys.erase(found);
  }
  for (const auto& [key, written] : keys) ADD_FAILURE() << what << " sets " << key << ", which the table does not have";
}

std::vector<std::string> names_of(const agent::Table<FieldDescription>& fields) {
  std::vector<std::string> names;
  for (const FieldDescription& field : fields) names.emplace_back(field.key);
  std::sort(names.begin(), names.end());
  return names;
}

// Calls each helper with all of its setters.
class Helpers : public ::testing::Test {
 protected:
  template <class Helper, class Fill>
  void covers(const Helper& helper, const Fill& fill) {
    const EventDescription& listed = described(helper.name());
    EXPECT_TRUE(covered_.insert(std::string(helper.name())).second);
    const Recorder recorder{std::string(helper.name())};
    helper(fill);
    ASSERT_THAT(recorder.events(), SizeIs(1)) << helper.name();
    const nopspan::OwnedEvent event = recorder.events()[0];
    EXPECT_EQ(keys_of(event->measurements()), names_of(listed.measurements)) << helper.name();
    expect_same_keys({listed.metadata.begin(), listed.metadata.end()}, delivered_by(event), helper.name());
    EXPECT_GT(event->system_time_ns(), 0);
  }

  std::set<std::string> covered_;
};

const Value kMap = Value::map({{"a", 1}});

TEST_F(Helpers, OfOperatorsSetExactlyTheKeysOfTheirEvents) {
  namespace op = agent::operators;
  covers(op::started, [](auto& e) { e.operator_name("o"); });
  covers(op::iteration_start,
         [](auto& e) { e.operator_name("o").trace_id("t").iteration(1).operator_state("healthy"); });
  covers(op::state_change, [](auto& e) { e.operator_name("o").trace_id("t").from("a").to("b").reason("r"); });
  covers(op::notification_sent, [](auto& e) { e.operator_name("o").trace_id("t").notification(kMap); });
  covers(op::notification_failed, [](auto& e) { e.operator_name("o").trace_id("t").reason("r"); });
  covers(op::get_notifications, [](auto& e) { e.operator_name("o").trace_id("t").count(2); });
  covers(op::take_snapshot, [](auto& e) { e.operator_name("o").trace_id("t").snapshot_id("s"); });
  covers(op::get_snapshot, [](auto& e) { e.operator_name("o").trace_id("t").snapshot_id("s"); });
  covers(op::get_snapshots, [](auto& e) { e.operator_name("o").trace_id("t").count(2); });
  covers(op::execute_start, [](auto& e) { e.operator_name("o").trace_id("t").code("c"); });
  covers(op::execute_complete, [](auto& e) { e.operator_name("o").trace_id("t").code("c").result(1); });
  covers(op::execute_error, [](auto& e) { e.operator_name("o").trace_id("t").code("c").reason(kMap); });
  covers(op::wait, [](auto& e) { e.operator_name("o").trace_id("t").ms(100); });
  covers(op::think, [](auto& e) { e.operator_name("o").trace_id("t").thought("hm"); });
  covers(op::done, [](auto& e) { e.operator_name("o").trace_id("t"); });
  covers(op::llm_error,
         [](auto& e) { e.operator_name("o").trace_id("t").reason("r").retry_count(1).will_retry(true); });
  covers(op::loop_stopped, [](auto& e) { e.operator_name("o").final_state("healthy"); });
  covers(op::unexpected_message, [](auto& e) { e.operator_name("o").message("m"); });
  EXPECT_THAT(covered_, SizeIs(18));
}

TEST_F(Helpers, OfTheCoordinatorSetExactlyTheKeysOfTheirEvents) {
  namespace co = agent::coordinator;
  covers(co::started, [](auto& e) { e.running(true).notification_count(3); });
  covers(co::iteration_start, [](auto& e) { e.running(true).notification_count(3).trace_id("t").iteration(1); });
  covers(co::get_notifications,
         [](auto& e) { e.running(true).notification_count(3).trace_id("t").status("unread").count(2); });
  covers(co::update_notification_statuses, [](auto& e) {
    e.running(true).notification_count(3).trace_id("t").notification_ids({"a", "b"}).status("read");
  });
  covers(co::insight_produced, [](auto& e) { e.running(true).notification_count(3).trace_id("t").insight(kMap); });
  covers(co::done,
         [](auto& e) { e.running(true).notification_count(3).trace_id("t").has_unread(true).unread_count(3); });
  covers(co::loop_stopped, [](auto& e) { e.running(true).notification_count(3).reason("shutdown"); });
  covers(co::llm_error, [](auto& e) { e.running(true).notification_count(3).trace_id("t").reason("r"); });
  covers(co::unexpected_message, [](auto& e) { e.running(true).notification_count(3).message("m"); });
  covers(co::invoke_operators, [](auto& e) { e.running(true).notification_count(3).trace_id("t").skills({"ets"}); });
  covers(co::message_operator, [](auto& e) { e.running(true).notification_count(3).trace_id("t").skill("ets"); });
  covers(co::get_operator_statuses, [](auto& e) { e.running(true).notification_count(3).trace_id("t"); });
  covers(co::wait, [](auto& e) { e.running(true).notification_count(3).trace_id("t").ms(100); });
  covers(co::think, [](auto& e) { e.running(true).notification_count(3).trace_id("t").thought("hm"); });
  covers(co::operator_notification_received,
         [](auto& e) { e.running(true).notification_count(3).notification_id("n").operator_pid("<0.7.0>"); });
  covers(co::operator_complete, [](auto& e) { e.running(true).notification_count(3).skill("ets").result(kMap); });
  covers(co::operator_crashed, [](auto& e) { e.running(true).notification_count(3).skill("ets").reason(kMap); });
  covers(co::max_iterations_reached, [](auto& e) { e.running(true).notification_count(3).iteration(9); });
  EXPECT_THAT(covered_, SizeIs(18));
}

// The metadata of several events, merged. Each key appears once.
std::vector<FieldDescription> together(std::initializer_list<std::string_view> events) {
  std::map<std::string_view, FieldDescription> fields;
  for (const std::string_view name : events) {
    for (const FieldDescription& field : described(name).metadata) fields.emplace(field.key, field);
  }
  std::vector<FieldDescription> list;
  for (const auto& [key, field] : fields) list.push_back(field);
  return list;
}

// Runs a live span of each sort, and looks at what handlers receive.
class LiveSpans : public ::testing::Test {
 protected:
  // Expects the measurements of the catalogue, its metadata, and the metadata of `starts`, the start of the same span.
  void covers(const nopspan::OwnedEvent& event, std::string_view starts) {
    const EventDescription& listed = described(event->name());
    EXPECT_TRUE(covered_.insert(std::string(event->name())).second);
    EXPECT_EQ(keys_of(event->measurements()), names_of(listed.measurements)) << event->name();
    Keys delivered = delivered_by(event);
    for (const char* id : {"request_id", "span_id", "parent_id"}) EXPECT_EQ(delivered.erase(id), 1U) << id;
    std::vector<FieldDescription> expected = together({starts, event->name()});
    delivered.erase("stacktrace");  // off by default
    expected.erase(std::remove_if(expected.begin(), expected.end(),
                                  [](const FieldDescription& field) { return field.key == "stacktrace"; }),
                   expected.end());
    expect_same_keys(expected, delivered, event->name());
  }
  void covers_all(const SpanRecorder& recorder) {
    for (const nopspan::OwnedEvent& event : recorder.events()) covers(event, recorder.start()->name());
  }

  std::set<std::string> covered_;
};

TEST_F(LiveSpans, DeliverTheKeysOfTheCatalogue) {
  const auto call = [](auto& m) { m.trace_id("t").iteration(1).context_size(3); };
  const auto tool = [](auto& m) { m.trace_id("t").iteration(1).tool_name("x").intent("why"); };
  const auto fails = [] { throw std::runtime_error("boom"); };
  {
    const SpanRecorder recorder("agent.llm");
    nopspan::span(agent::llm, call, [](Span& span) {
      span.with<agent::LlmFields>([](auto& m) { m.tool_selected("think").intent("why").response(kMap); });
    });
    covers_all(recorder);
  }
  {
    const SpanRecorder recorder("agent.llm");
    EXPECT_THROW(nopspan::span(agent::llm, call, fails), std::runtime_error);
    covers(recorder.exception(), "agent.llm.start");
  }
  {
    const SpanRecorder recorder("agent.tool");
    agent::tool_span(tool, [] { return kMap; });
    covers_all(recorder);
  }
  {
    const SpanRecorder recorder("agent.tool");
    EXPECT_THROW(agent::tool_span(tool, fails), std::runtime_error);
    covers(recorder.exception(), "agent.tool.start");
  }
  {
    const SpanRecorder recorder("agent.compaction");
    Span{agent::compaction,
         [](auto& m) { m.trace_id("t").iteration(1).strategy("summarize").config(kMap).message_count(40); }}
        .with<agent::CompactionFields>([](auto& m) { m.message_count(7); });
    covers_all(recorder);
  }
  {
    const Recorder recorder{"agent.operator.iteration_start", "agent.coordinator.iteration_start"};
    const Span of_operator{agent::operator_iteration,
                           [](auto& m) { m.operator_name("o").trace_id("t").iteration(1).operator_state("alert"); }};
    const Span of_coordinator{agent::coordinator_iteration,
                              [](auto& m) { m.running(true).notification_count(0).trace_id("t").iteration(1); }};
    for (const nopspan::OwnedEvent& event : recorder.events()) covers(event, event->name());
  }
  EXPECT_THAT(covered_, SizeIs(10));  // the 8 events of spans, and two that are also events of their own
}

TEST(Builders, TakeListsOfAnyLengthAndNullTexts) {
  const nopspan::Text ids[] = {"a", nullptr};
  const Recorder recorder{"agent.coordinator.update_notification_statuses"};
  agent::coordinator::update_notification_statuses([&](auto& e) { e.notification_ids(ids, 2); });
  agent::coordinator::update_notification_statuses([&](auto& e) { e.notification_ids(nullptr, 2); });
  agent::coordinator::update_notification_statuses([&](auto& e) { e.notification_ids({}); });
  const auto events = recorder.events();
  EXPECT_EQ(events[0]->metadata("notification_ids").copy(), Value::list({"a", nullptr}));
  EXPECT_EQ(events[1]->metadata("notification_ids").copy(), Value::list());
  EXPECT_EQ(events[2]->metadata("notification_ids").copy(), Value::list());
}

TEST(AgentCatalogue, ListsNoKeyTwiceInAnEvent) {
  for (const EventDescription& event : agent::catalogue()) {
    std::set<std::string_view> keys;
    for (const FieldDescription& field : event.metadata) EXPECT_TRUE(keys.insert(field.key).second) << field.key;
    EXPECT_GT(event.measurements.size(), 0U);
  }
}

TEST(AgentCatalogue, HasAWordForEachType) {
  std::set<std::string> words;
  for (unsigned type = 0; type <= static_cast<unsigned>(FieldType::any); ++type) {
    words.insert(to_string(static_cast<FieldType>(type)));
  }
  EXPECT_THAT(words, SizeIs(static_cast<std::size_t>(FieldType::any) + 1));
}

TEST(AgentCatalogue, KeepsWhatPeopleAndModelsWroteAsContent) {
  const std::set<std::string_view> content = {"intent",  "response", "result",  "code",      "notification",
                                              "thought", "message",  "insight", "stacktrace"};
  for (const EventDescription& event : agent::catalogue()) {
    for (const FieldDescription& field : event.metadata) {
      const bool symbol = field.type == FieldType::symbol;
      const bool expected = content.count(field.key) > 0 || (field.key == "reason" && !symbol);
      EXPECT_EQ(field.content, expected) << event.name.view() << ' ' << field.key;
    }
  }
}

// A list of keys in the notation of docs/genai.md.
std::string documented(const agent::Table<FieldDescription>& fields) {
  std::string text;
  for (const FieldDescription& field : fields) {
    if (field.optional) continue;
    if (!text.empty()) text += ' ';
    text += "`" + std::string(field.key) + "`";
    if (field.content) text += " **C**";
  }
  return text;
}

TEST(AgentCatalogue, IsInTheDocumentsAsItIs) {
  std::ifstream file(NOPSPAN_SOURCE_DIR "/docs/genai.md");
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  for (const EventDescription& event : agent::catalogue()) {
    const std::string name(event.name.view().substr(agent::event_prefix().size() + 1));
    const std::string row =
        "| `" + name + "` | " + documented(event.measurements) + " | " + documented(event.metadata) + " |";
    EXPECT_NE(text.find(row), std::string::npos) << row;
  }
}

// ---- The probes that fire for agent catalogue events whose names are known only at run time.

using nopspan::detail::Probe;

const Value kLasted = Value::map({{"duration", 5}});
const Value kTool = Value::map({{"tool_name", "x"}, {"reason", Value::map({{"type", "T"}})}});

TEST(AgentProbes, OfTheEndOfASpanAreAWholeSpans) {
  const RaisedGate tracer(RaisedGate::spans);
  const Fired fired;
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(agent::emit("agent.tool.stop", kLasted, kTool), Errc::ok);
  EXPECT_EQ(agent::emit("agent.compaction.stop", kLasted, Value::map()), Errc::ok);
  EXPECT_EQ(fired.all(), (Hits{{Probe::span_start, 3}, {Probe::span_stop, 3}}));
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
  EXPECT_EQ(fired.all(), (Hits{{Probe::event, 6}}));
}

TEST(AgentProbes, OfAToolsEndIncludeItsCall) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  EXPECT_EQ(agent::emit_tool_stop(kTool, 1, 1), Errc::ok);
  EXPECT_EQ(agent::emit_tool_stop(Value::map(), 1, 1), Errc::ok);  // a tool without a name
  EXPECT_EQ(fired.all(), (Hits{{Probe::tool_call, 1}}));
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

TEST(AgentProbes, AndHandlersGetTheirAttributesWithoutTheOthers) {
  const Counted differ(&nopspan::Stats::trace_ids_differ);
  {
    const Recorder recorder{"agent.llm.stop"};
    EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, kCall), Errc::ok);
    EXPECT_THAT(recorder.events().at(0), HasAttribute("gen_ai.request.model", "gpt"));
  }
  const RaisedGate tracer(RaisedGate::spans);
  const ProbeAttributes probe;
  const Span around{agent::llm};
  EXPECT_EQ(agent::emit("agent.llm.stop", kLasted, Value::map({{"model", "gpt"}, {"trace_id", "other"}})), Errc::ok);
  EXPECT_TRUE(probe.have("gen_ai.request.model"));
  EXPECT_EQ(differ.times(), 1U);
}

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
