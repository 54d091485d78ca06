// SPDX-License-Identifier: Apache-2.0
// The attributes of spans and events. Handlers and probes use the same mapping.
#include "in_child.h"
#include "raised_gate.h"
#include "recorded.h"

#include "emit/probe.h"
#include "genai/span_attributes.h"
#include "state/context_stack.h"
#include "state/span_state.h"

#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai.h>
#include <nopspan/llm.h>

namespace {

namespace genai = nopspan::genai;
namespace llm = nopspan::llm;
using nopspan::SpanKind;

Value attributes_of(const nopspan::OwnedEvent& event) { return event->attributes().copy(); }

Value attribute(const nopspan::OwnedEvent& event, std::string_view key) {
  const auto found = event->attributes().find(key);
  EXPECT_TRUE(found.exists()) << key;
  return found.copy();
}

TEST(SpanAttributes, OfAPlainSpanAreItsFields) {
  const SpanRecorder recorder("work");
  Span{"work", [](Fields& f) { f.set("rows", 3).set("temperature", 0.5).content("query", "select"); }}.measure("bytes",
                                                                                                               7);
  EXPECT_EQ(attributes_of(recorder.start()), Value::map({{"rows", 3}, {"temperature", 0.5}, {"query", "select"}}));
  EXPECT_EQ(attributes_of(recorder.stop()),
            Value::map({{"rows", 3}, {"temperature", 0.5}, {"query", "select"}, {"bytes", 7}}));
}

TEST(SpanAttributes, OfAChatFollowTheConventionsAtItsStart) {
  const auto start = started(llm::chat, [](auto& m) {
    m.engine("llama.cpp").model("tiny").temperature(0).max_tokens(64).top_k(40).seed(7);
    m.stop_sequences({"END", "."}).server("127.0.0.1", 8080).conversation_id("c-1");
  });
  EXPECT_EQ(attributes_of(start), Value::map({{"gen_ai.provider.name", "llama.cpp"},
                                              {"gen_ai.operation.name", "chat"},
                                              {"gen_ai.request.model", "tiny"},
                                              {"gen_ai.output.type", "text"},
                                              {"nopspan.request_id", std::string(start->request_id())},
                                              {"gen_ai.request.temperature", 0.0},
                                              {"gen_ai.request.top_k", 40.0},
                                              {"gen_ai.request.max_tokens", 64},
                                              {"gen_ai.request.stop_sequences", Value::list({"END", "."})},
                                              {"gen_ai.request.seed", 7},
                                              {"gen_ai.conversation.id", "c-1"},
                                              {"server.address", "127.0.0.1"},
                                              {"server.port", 8080},
                                              {"nopspan.engine", "llama.cpp"}}));
  EXPECT_EQ(kind_of(start), SpanKind::client);
}

TEST(SpanAttributes, OfAStopAreTheStartsAndTheTerminalOnes) {
  const SpanRecorder recorder("llm.step");
  Span{llm::step, [](auto& m) { m.provider("openai").model("gpt-5").service_tier("flex"); }}.with<llm::StepFields>(
      [](auto& m) {
        m.input_tokens(21).output_tokens(0).cached_tokens(8).reasoning_tokens(3).finish_reason("stop");
        m.response_id("resp_1").response_model("gpt-5-2026").total_cost(0.25);
      });
  const Value at_stop = attributes_of(recorder.stop());
  const std::string id(recorder.stop()->request_id());
  EXPECT_EQ(at_stop, Value::map({{"gen_ai.provider.name", "openai"},
                                 {"gen_ai.operation.name", "chat"},
                                 {"gen_ai.request.model", "gpt-5"},
                                 {"gen_ai.output.type", "text"},
                                 {"nopspan.request_id", id},
                                 {"openai.request.service_tier", "flex"},
                                 {"gen_ai.response.finish_reasons", Value::list({"stop"})},
                                 {"gen_ai.usage.input_tokens", 21},
                                 {"gen_ai.usage.output_tokens", 0},
                                 {"gen_ai.usage.cache_read.input_tokens", 8},
                                 {"gen_ai.usage.reasoning.output_tokens", 3},
                                 {"gen_ai.usage.cost", 0.25},
                                 {"langfuse.observation.cost_details", R"({"total":0.25})"},
                                 {"gen_ai.response.id", "resp_1"},
                                 {"gen_ai.response.model", "gpt-5-2026"}}));
}

TEST(SpanAttributes, HaveTheCostOfAModelThatHasAPrice) {
  genai::PriceTable prices;
  std::string error;
  ASSERT_TRUE(prices.parse(R"({"unit": "per_million_tokens", "models": {"gpt-5": {"input": 2, "output": 8},
                               "dear": {"input": 20, "cached_input": 5, "output": 8}}})",
                           error));
  genai::set_prices(prices);
  const SpanRecorder recorder("llm.step");
  for (const char* model : {"gpt-5", "unknown"}) {
    const Span span{llm::step, [&](auto& m) { m.model(model).input_tokens(1000000).output_tokens(250000); }};
  }
  // The price is that of the model that responded.
  Span{llm::step, [](auto& m) { m.model("unknown").set("gen_ai.usage.input_tokens", 1000000); }}.set(
      "gen_ai.response.model", "gpt-5");
  short_span(llm::step, [](auto& m) { m.model("gpt-5").response_model("dear").input_tokens(1000000); });
  const Value usage = Value::map({{"input_tokens", 1000000}, {"cached_tokens", 1000000}});
  short_span(llm::step, [&](auto& m) { m.model("dear").set("usage", usage); });
  genai::set_prices(genai::PriceTable());
  EXPECT_THAT(recorder.events("llm.step.stop").at(2), HasAttribute("gen_ai.usage.cost", 2.0));
  EXPECT_THAT(recorder.events("llm.step.stop").at(3), HasAttribute("gen_ai.usage.cost", 20.0));
  EXPECT_THAT(recorder.events("llm.step.stop").at(4), HasAttribute("gen_ai.usage.cost", 5.0));
  const auto priced = recorder.events("llm.step.stop").at(0);
  EXPECT_THAT(priced, HasAttribute("gen_ai.usage.cost", 4.0));
  EXPECT_THAT(priced, HasAttribute("langfuse.observation.cost_details", R"({"input":2,"output":2,"total":4})"));
  const auto unknown = recorder.events("llm.step.stop").at(1);
  EXPECT_FALSE(unknown->attributes().find("gen_ai.usage.cost").exists()) << "a missing cost is not a cost of zero";
  EXPECT_THAT(unknown, LacksAttribute("langfuse.observation.cost_details"));
}

TEST(SpanAttributes, TakeModelAndEngineFromTheSpansAround) {
  const SpanRecorder recorder("llm.step");
  {
    const Span chat{llm::chat, [](auto& m) { m.engine("vllm").model("big"); }};
    { const Span step{llm::step}; }
    const Span other{llm::step, [](auto& m) { m.provider("openai"); }};
  }
  const auto steps = recorder.events("llm.step.start");
  EXPECT_THAT(steps.at(0), HasAttribute("gen_ai.provider.name", "vllm"));
  EXPECT_THAT(steps.at(0), HasAttribute("gen_ai.request.model", "big"));
  EXPECT_THAT(steps.at(1), HasAttribute("gen_ai.provider.name", "openai"));
}

TEST(SpanAttributes, OfAToolAreThoseOfExecuteTool) {
  const SpanRecorder recorder("llm.tool");
  Span{llm::tool, [](auto& m) { m.tool_name("search").tool_call_id("call-1").arguments("{}"); }}.with<llm::ToolFields>(
      [](auto& m) { m.result("found"); });
  const auto stop = recorder.stop();
  EXPECT_THAT(stop, HasAttribute("gen_ai.operation.name", "execute_tool"));
  EXPECT_THAT(stop, AllOf(HasAttribute("gen_ai.tool.name", "search"), HasAttribute("gen_ai.tool.call.id", "call-1")));
  EXPECT_THAT(stop, AllOf(HasContent("gen_ai.tool.call.arguments"), HasContent("gen_ai.tool.call.result")));
  EXPECT_FALSE(stop->attributes().find("gen_ai.tool.name").is_content());
  EXPECT_EQ(kind_of(stop), SpanKind::internal);
}

TEST(SpanAttributes, OfAnImageAreThoseOfGenerateContent) {
  const SpanRecorder recorder("llm.image");
  Span{llm::image, [](auto& m) { m.model("painter").operation("edit").n(2); }}.with<llm::ImageFields>(
      [](auto& m) { m.image_count(2); });
  const auto stop = recorder.stop();
  EXPECT_THAT(stop, HasAttribute("gen_ai.operation.name", "generate_content"));
  EXPECT_THAT(stop, AllOf(HasAttribute("gen_ai.output.type", "image"), HasAttribute("gen_ai.request.choice.count", 2)));
  EXPECT_THAT(stop, AllOf(HasAttribute("nopspan.image.operation", "edit"), HasAttribute("nopspan.image_count", 2)));
}

TEST(SpanAttributes, OfAnEndSayWhatWentWrong) {
  const SpanRecorder recorder("llm.generate");
  { Span{llm::generate}.fail("timeout", "after 5 s"); }
  EXPECT_THAT(recorder.stop(), AllOf(HasAttribute("error.type", "timeout"), HasContent("nopspan.error.message")));
  EXPECT_THROW(nopspan::span(llm::generate, [] { throw std::runtime_error("secret"); }), std::runtime_error);
  EXPECT_THAT(recorder.exception(), HasAttribute("error.type", "std::runtime_error"));
  EXPECT_THAT(recorder.exception(), HasContent("nopspan.reason"));
}

// A call whose metadata has the given outcome.
nopspan::OwnedEvent stop_of_call(const Value& outcome, SpanKind kind = SpanKind::client,
                                 void (*say_more)(Span&) = nullptr) {
  const SpanRecorder recorder("llm.generate");
  {
    Span call{llm::generate, {kind}};
    for (const auto& [key, value] : outcome.as_map()) call.set(key, value);
    if (say_more != nullptr) say_more(call);
  }
  return recorder.stop();
}

TEST(FailureInMetadata, IsTheStatusThatTheMappingOfValuesHas) {
  std::vector<Value> outcomes;
  for (const int status : {-1, 0, 200, 399, 400, 404, 429, 499, 500, 503, 599}) {
    outcomes.push_back(Value::map({{"http_status", status}}));
    outcomes.push_back(Value::map({{"http_status", status}, {"finish_reason", "error"}}));
  }
  for (const char* reason : {"error", "stop", "Error", ""}) outcomes.push_back(Value::map({{"finish_reason", reason}}));
  outcomes.push_back(Value::map({{"http_status", 503.0}}));
  outcomes.push_back(Value::map({{"http_status", "503"}}));
  for (const Value& error : {Value("refused"), Value(-1), Value(), Value::map({{"type", "refused"}})}) {
    outcomes.push_back(Value::map({{"error", error}}));
    outcomes.push_back(Value::map({{"http_status", 503}, {"error", error}}));
  }
  for (const Value& reasons : {Value::list({"error"}), Value::list({"error", "error"}), Value::list({"stop", "error"}),
                               Value::list({"error", nullptr}), Value::list()}) {
    outcomes.push_back(Value::map({{"finish_reason", reasons}}));
    outcomes.push_back(Value::map({{"http_status", 200}, {"finish_reason", reasons}}));
  }
  for (const Value& outcome : outcomes) {
    const auto stop = stop_of_call(outcome);
    const Value offline = genai::span_status(outcome);
    const bool failed = offline.as_list()[0] == Value("error");
    EXPECT_THAT(stop, HasStatus(failed ? Status::error : Status::ok)) << outcome.to_string();
    EXPECT_EQ(stop->attributes().find("error.type").exists(), failed) << outcome.to_string();
    if (!failed) continue;
    const Value attributes = genai::terminal(outcome);
    const Value* type = attributes.find("error.type");
    EXPECT_EQ(attribute(stop, "error.type"), type != nullptr ? *type : Value("_OTHER")) << outcome.to_string();
    EXPECT_THAT(stop, HasMetadata("error.type", attribute(stop, "error.type")));
    if (outcome.find("error") == nullptr) {
      EXPECT_EQ(attribute(stop, "error.type"), Value(genai::error_type(outcome))) << outcome.to_string();
    }
  }
}

TEST(FailureInMetadata, OfAServerBeginsAt500) {
  for (const auto& [status, failed] : {std::pair(404, false), std::pair(499, false), std::pair(500, true)}) {
    const auto stop = stop_of_call(Value::map({{"http_status", status}}), SpanKind::server);
    EXPECT_THAT(stop, HasStatus(failed ? Status::error : Status::ok));
    EXPECT_EQ(stop->attributes().find("error.type").exists(), failed);
  }
}

TEST(FailureInMetadata, OfAnImageIsItsErrorUnlessThatIsNull) {
  const Recorder recorder{"llm.image.stop"};
  {
    Span{llm::image}.with<llm::ImageFields>([](auto& m) { m.error("refused"); });
  }
  {
    Span{llm::image}.with<llm::ImageFields>([](auto& m) { m.error("refused").error(nullptr); });
  }
  EXPECT_THAT(recorder.events(), ElementsAre(HasStatus(Status::error), HasStatus(Status::ok)));
  EXPECT_THAT(recorder.events().at(0), HasMeasurement("image_count", 0));
}

TEST(FailureWithoutAType, HasTheAttributeThatTheApplicationHasSet) {
  const Recorder recorder{"work.stop"};
  const auto fail = [](const Value& own, const char* type) {
    Span work{"work"};
    work.set("error.type", own);
    work.fail(type);
  };
  fail("timeout", "");
  fail(503, "");
  fail("timeout", "my::Error");
  EXPECT_THAT(recorder.events(), ElementsAre(HasAttribute("error.type", "timeout"), HasAttribute("error.type", 503),
                                             HasAttribute("error.type", "my::Error")));
}

TEST(FailureInMetadata, IsLessThanWhatTheApplicationSays) {
  const Value failure = Value::map({{"http_status", 503}});
  const auto failed = stop_of_call(failure, SpanKind::client, [](Span& call) { call.fail("rate_limit"); });
  EXPECT_THAT(failed, AllOf(HasMetadata("error.type", "rate_limit"), HasAttribute("error.type", "rate_limit")));
  const auto cancelled = stop_of_call(failure, SpanKind::client, [](Span& call) { call.cancel("client gone"); });
  EXPECT_THAT(cancelled, AllOf(HasStatus(Status::cancelled), LacksAttribute("error.type")));
  const SpanRecorder recorder("llm.generate");
  EXPECT_THROW(nopspan::span(
                   llm::generate, [](auto& m) { m.http_status(503); }, [] { throw 7; }),
               int);
  EXPECT_THAT(recorder.exception(), AllOf(HasStatus(Status::exception), HasAttribute("error.type", "int")));
}

TEST(FailureInMetadata, OfAPlainSpanIsItsOwnField) {
  const SpanRecorder recorder("work");
  { Span("work").set("http_status", 503).set("finish_reason", "error"); }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok));
}

TEST(SpanAttributes, OfAStreamHaveItsTimeToTheFirstChunk) {
  const SpanRecorder recorder("llm.stream");
  Span{llm::stream}.first_token();
  EXPECT_THAT(recorder.start(), HasAttribute("gen_ai.request.stream", true));
  EXPECT_GE(attribute(recorder.stop(), "gen_ai.response.time_to_first_chunk").as_double(-1), 0.0);
}

// In a child, because a process never forgets a label's key.
TEST(SpanAttributes, HaveTheLabelsOfTheSpansAround) {
  expect_in_child([] {
    const SpanRecorder outer_events("work");
    const SpanRecorder inner_events("inner");
    {
      const Span outer{"work", [](Fields& f) { f.label("region", "eu"); }};
      const Span inner{"inner"};
    }
    EXPECT_EQ(attributes_of(outer_events.start()), Value::map({{"region", "eu"}}));
    EXPECT_EQ(attributes_of(inner_events.stop()), Value::map({{"region", "eu"}}));
  });
}

TEST(SpanAttributes, PreferTheSpansOwnToALabelOfTheSpansAround) {
  expect_in_child([] {
    const SpanRecorder events("inner");
    {
      const Span outer{"work", [](Fields& f) { f.label("route", "outer"); }};
      const Span inner{"inner", [](Fields& f) { f.set("route", "own"); }};
    }
    EXPECT_EQ(attributes_of(events.stop()), Value::map({{"route", "own"}}));
  });
}

TEST(SpanAttributes, OfAnotherCataloguesKeysAreTheApplicationsOwn) {
  const auto start = started(llm::chat, [](auto& m) { m.set("count", 3).set("status", "fine").set("queue_ns", 7); });
  EXPECT_THAT(start, AllOf(HasAttribute("count", 3), HasAttribute("status", "fine")));
  EXPECT_THAT(start, HasAttribute("queue_ns", 7));
}

TEST(SpanAttributes, ThatTheApplicationSetsItselfCount) {
  const auto start = started(llm::chat, [](auto& m) {
    m.model("tiny").set("gen_ai.request.model", "mine").set("gen_ai.operation.name", "text_completion");
    m.set("turns", 3);
  });
  EXPECT_THAT(start, HasAttribute("gen_ai.request.model", "mine"));
  EXPECT_THAT(start, AllOf(HasAttribute("gen_ai.operation.name", "text_completion"), HasAttribute("turns", 3)));
  const auto keys = keys_of(start->attributes());
  EXPECT_EQ(std::count(keys.begin(), keys.end(), "gen_ai.request.model"), 1);
}

TEST(SpanAttributes, KeepTheServerIfTheApplicationSetsAnother) {
  const auto start = started(llm::chat, [](auto& m) { m.server("host", 443).set("gen_ai.request.model", "mine"); });
  EXPECT_THAT(start, AllOf(HasAttribute("server.address", "host"), HasAttribute("server.port", 443)));
}

TEST(SpanAttributes, OfAnEngineRequestAreTheServers) {
  const SpanRecorder recorder("engine.request");
  {
    const nopspan::AsyncSpan span{nopspan::engine::request, nopspan::Context(),
                                  [](auto& m) { m.engine("vllm").model("big").tenant("a"); }};
  }
  const auto start = recorder.start();
  EXPECT_EQ(kind_of(start), SpanKind::server);
  EXPECT_THAT(start, HasAttribute("gen_ai.operation.name", "chat"));
  EXPECT_THAT(start, AllOf(HasAttribute("gen_ai.provider.name", "vllm"), HasAttribute("nopspan.tenant", "a")));
}

TEST(SpanAttributes, OfASpanThatIsNoOperationNameNone) {
  const auto start = started(nopspan::engine::queue, [](Fields& f) { f.model("big").set("temperature", 1); });
  EXPECT_THAT(start, AllOf(LacksAttribute("gen_ai.operation.name"), HasAttribute("gen_ai.request.model", "big")));
  EXPECT_THAT(start, HasAttribute("temperature", 1));
}

TEST(RetryEvent, HasBothNamesWhoeverEmitsIt) {
  const Value adapters = Value::map({{"attempt", 2}, {"delay_ms", 500}, {"reason", "timeout"}, {"status_code", 503}});
  const Value conventions = Value::map(
      {{"retry.attempt", 2}, {"retry.delay_ms", 500}, {"retry.reason", "timeout"}, {"http.response.status_code", 503}});
  const auto as_adapter = [](Fields& f) {
    f.set("attempt", 2).set("delay_ms", 500).set("reason", "timeout").set("status_code", 503);
  };
  const Recorder recorder{"llm.adapter.retry", "gen_ai.retry"};
  const Span call{llm::chat};
  llm::execute("adapter.retry", as_adapter);
  nopspan::execute("llm.adapter.retry", as_adapter);
  call.event("llm.adapter.retry", as_adapter);
  llm::retry([](auto& r) { r.attempt(2).delay_ms(500).reason("timeout").status_code(503); });
  genai::retry(2, [](auto& e) { e.delay_ms(500).reason("timeout").status_code(503); });
  const auto events = recorder.events();
  ASSERT_THAT(recorder.names(),
              ElementsAre("llm.adapter.retry", "gen_ai.retry", "llm.adapter.retry", "gen_ai.retry", "llm.adapter.retry",
                          "gen_ai.retry", "llm.adapter.retry", "gen_ai.retry", "gen_ai.retry", "llm.adapter.retry"));
  for (const auto& event : events) {
    EXPECT_EQ(event->span_id(), id_of(call));
    EXPECT_EQ(attributes_of(event), conventions);
    if (event->name() != "gen_ai.retry") continue;
    EXPECT_EQ(event->metadata().copy(), conventions);
  }
  EXPECT_EQ(events[0]->metadata().copy(), adapters) << "what execute() was given, and no more";
  EXPECT_TRUE(events[0]->measurements().empty());
  Value complete = adapters;
  complete.set("request_id", call.request_id().view());
  EXPECT_EQ(events[9]->metadata().copy(), complete) << "as llm::retry() makes it";
  EXPECT_THAT(keys_of(events[9]->measurements()), ElementsAre("system_time"));
  EXPECT_GT(events[9]->system_time_ns(), 0);
}

TEST(ResponseEvent, HasItsFinishReasonsJoinedForHandlersAndAsAListForExporters) {
  const Recorder recorder{"gen_ai.response.received"};
  genai::response_received([](auto& e) { e.model("m").finish_reasons({"stop", "tool_calls"}); });
  ASSERT_EQ(recorder.size(), 1U);
  const auto event = recorder.events()[0];
  EXPECT_EQ(event->metadata().copy(),
            Value::map({{"gen_ai.response.model", "m"}, {"gen_ai.response.finish_reasons", "stop,tool_calls"}}));
  EXPECT_EQ(attribute(event, "gen_ai.response.finish_reasons"), Value::list({"stop", "tool_calls"}));
}

TEST(ToolCallEvent, HasTheConventionsKeyForItsArgumentsOnProbes) {
  const Recorder recorder{"gen_ai.tool.call"};
  genai::tool_call("search", [](auto& e) { e.arguments("{}"); });
  const auto event = recorder.events().at(0);
  EXPECT_THAT(keys_of(event->metadata()), ElementsAre("gen_ai.tool.arguments", "gen_ai.tool.name"));
  EXPECT_THAT(event, HasContent("gen_ai.tool.call.arguments"));
}

TEST(FirstTokenEvent, IsTheSpansFirstToken) {
  const Recorder recorder{"gen_ai.stream.first_token", "llm.stream.stop"};
  {
    const Span span{llm::stream};
    genai::stream_first_token([](auto& e) { e.tokens_so_far(2); });
    genai::stream_first_token();
  }
  ASSERT_THAT(recorder.names(),
              ElementsAre("gen_ai.stream.first_token", "gen_ai.stream.first_token", "llm.stream.stop"));
  EXPECT_EQ(recorder.events()[0]->metadata().copy(), Value::map({{"gen_ai.stream.tokens_so_far", 2}}));
  EXPECT_THAT(keys_of(recorder.events()[1]->metadata()), IsEmpty());
  EXPECT_TRUE(recorder.events()[2]->attributes().find("gen_ai.response.time_to_first_chunk").exists());
}

TEST(GenAiEvents, BelongToTheSpanThatIsNamed) {
  const Recorder recorder{"gen_ai.prompt.sent"};
  AsyncSpan named{"engine.request"};
  const Span current{"work"};
  genai::prompt_sent();
  genai::prompt_sent(named);
  genai::prompt_sent(named.context(), [](auto& e) { e.message_count(1); });
  const auto events = events_of(recorder, 3);
  EXPECT_EQ(events[0]->span_id(), id_of(current));
  EXPECT_EQ(events[1]->span_id(), id_of(named));
  EXPECT_EQ(events[2]->span_id(), id_of(named));
  named.end();
}

TEST(SpanAttributes, SayWhyASpanFailedWhateverElseTheApplicationSays) {
  const SpanRecorder recorder("llm.chat");
  {
    Span{llm::chat, [](auto& m) { m.set("gen_ai.workflow.name", "w"); }}.fail("rate_limit");
  }
  EXPECT_THAT(recorder.stop(), HasAttribute("error.type", "rate_limit"));
}

TEST(SpanAttributes, MayBeAskedForByCopiesOfAnEvent) {
  std::size_t sizes[2] = {};
  attach_ok("copies", "work.stop", [&](const nopspan::Event& event) {
    const nopspan::FieldsView first = event.attributes();
    const nopspan::OwnedEvent copy(event);
    sizes[1] = copy->attributes().size();
    sizes[0] = first.size();
  });
  short_span("work", [](Fields& f) {
    for (int i = 0; i < 100; ++i) f.set("key" + std::to_string(i), i);
  });
  detach_ok("copies");
  EXPECT_THAT(sizes, ElementsAre(100, 100));
}

TEST(RetryEvent, KeepsWhatIsContentAsContent) {
  const Recorder recorder{"gen_ai.retry"};
  llm::retry([](auto& r) { r.attempt(1).content("reason", "SECRET"); });
  EXPECT_TRUE(recorder.events().at(0)->metadata("retry.reason").is_content());
}

// The attribute bytes that a probe would carry.
std::string encoded(const Span&, nopspan::detail::SpanState& state, bool with_content) {
  static unsigned char bytes[nopspan::detail::kMaxAttributesBytes];
  const auto done = encode_attributes(state, true, with_content, bytes);
  return {reinterpret_cast<const char*>(bytes), done.size};
}

// How often a key occurs in the bytes.
std::size_t occurrences(const std::string& bytes, std::string_view key) {
  const std::string field = "\x0a" + std::string(1, static_cast<char>(key.size())) + std::string(key);
  std::size_t count = 0;
  for (std::size_t at = bytes.find(field); at != std::string::npos; at = bytes.find(field, at + 1)) ++count;
  return count;
}

// The attribute bytes that a probe would carry for a span made here.
template <class N, class Fill>
std::string carried(const N& name, const Fill& fill, bool with_content = false) {
  const RaisedGate tracer(RaisedGate::spans);
  const Span span{name, fill};
  auto* state = const_cast<nopspan::detail::SpanState*>(nopspan::detail::top_frame()->span);
  return encoded(span, *state, with_content);
}

TEST(SpanAttributes, AreThereOnceEvenIfTheyAreLabelsOfTheSpansAround) {
  expect_in_child([] {
    const RaisedGate tracer(RaisedGate::spans);
    const Span outer{"work", [](Fields& f) { f.label("gen_ai.conversation.id", "label"); }};
    const Span inner{"work", [](Fields& f) { f.label("gen_ai.conversation.id", "label"); }};
    EXPECT_EQ(occurrences(carried(llm::chat, [](auto& m) { m.conversation_id("c"); }), "gen_ai.conversation.id"), 1U);
  });
}

TEST(SpanAttributes, AreThereOnceEach) {
  const nopspan::SpanName<Fields> iteration{"agent.operator.iteration"};
  EXPECT_EQ(occurrences(carried(iteration, [](auto& m) { m.set("operator", "a").set("agent_name", "b"); }),
                        "gen_ai.agent.name"),
            1U);
  EXPECT_EQ(occurrences(carried(llm::chat, [](auto& m) { m.set("rows", 3).measure("rows", 4); }), "rows"), 1U);
  EXPECT_EQ(occurrences(carried(nopspan::Name("work"), [](auto& m) { m.set("rows", 3).measure("rows", 4); }), "rows"),
            1U);
  const auto cost = [](auto& m) { m.total_cost(0.5).set("langfuse.observation.cost_details", "{}"); };
  EXPECT_EQ(occurrences(carried(llm::chat, cost), "langfuse.observation.cost_details"), 1U);
  const auto arguments = [](auto& m) { m.set("arguments", "a").set("gen_ai.tool.arguments", "b"); };
  const SpanRecorder keeps_content("llm.tool");
  EXPECT_EQ(occurrences(carried(llm::tool, arguments, true), "gen_ai.tool.call.arguments"), 1U);
}

TEST(SpanAttributes, AreTheSameWhetherAHandlerIsAttachedOrNot) {
  const auto fill = [](auto& m) { m.model("m").content("gen_ai.request.model", "SECRET"); };
  EXPECT_EQ(occurrences(carried(llm::chat, fill), "gen_ai.request.model"), 1U);
  const SpanRecorder handler("llm.chat");
  EXPECT_EQ(occurrences(carried(llm::chat, fill), "gen_ai.request.model"), 1U);
}

TEST(SpanAttributes, KeepWhatTheDocumentsCallContentHoweverItIsSet) {
  const SpanRecorder handler("llm.tool");
  const std::string bytes = carried(llm::tool, [](auto& m) {
    for (const char* key : {"arguments", "result", "response", "step_result", "chat_result", "input_messages",
                            "output_messages", "system_instructions", "tool_definitions", "error", "error.message"}) {
      m.set(key, "CANARY");
    }
  });
  EXPECT_THAT(bytes, Not(::testing::HasSubstr("CANARY")));
}

TEST(SpanAttributes, OfOneThatIsEmptyAreNone) {
  const std::string bytes = carried(
      llm::tool, [](auto& m) { m.set("tool_call_id", nullptr).set("mine", Value::list()).set("other", nullptr); });
  for (const char* key : {"gen_ai.tool.call.id", "mine", "other"}) EXPECT_EQ(occurrences(bytes, key), 0U) << key;
  const std::string mapped = carried(llm::chat, [](auto& m) { m.set("stop_sequences", Value::list()); });
  EXPECT_EQ(occurrences(mapped, "gen_ai.request.stop_sequences"), 0U);
}

TEST(SpanAttributes, KeepContentOfEveryKindFromProbes) {
  const RaisedGate tracer(RaisedGate::spans);
  const SpanRecorder handler("llm.chat");  // otherwise content is not kept at all
  Span span{llm::chat, [](auto& m) {
              m.system_instructions("CANARY-1").input_messages("CANARY-2").tool_definitions("CANARY-3");
              m.content("finish_reason", "CANARY-4").content("model", "CANARY-5").content("usage", "CANARY-6");
              m.content("temperature", "CANARY-7").content("custom", "CANARY-8");
            }};
  span.with<llm::ChatFields>([](auto& m) { m.chat_result("CANARY-9").output_messages(Value::list({"CANARY-10"})); });
  span.fail("timeout", "CANARY-11");
  auto* state = const_cast<nopspan::detail::SpanState*>(nopspan::detail::top_frame()->span);
  EXPECT_THAT(encoded(span, *state, false), Not(::testing::HasSubstr("CANARY")));
  const std::string with_content = encoded(span, *state, true);
  for (int i = 1; i <= 11; ++i) EXPECT_THAT(with_content, ::testing::HasSubstr("CANARY-" + std::to_string(i)));
}

TEST(SpanAttributes, HaveNoContentThatNobodyReceives) {
  const auto fill = [](auto& m) { m.content("custom", "CANARY"); };
  EXPECT_EQ(occurrences(carried(llm::chat, fill, true), "custom"), 0U) << "it was not even copied";
  const SpanRecorder handler("llm.chat");
  EXPECT_EQ(occurrences(carried(llm::chat, fill, true), "custom"), 1U);
}

TEST(SpanAttributes, OfAnImageHaveItsWholeUsage) {
  const Value usage = Value::map({{"images", 2}, {"tokens", Value::map({{"input", 5}, {"output", 7}})}});
  const auto stop = stopped(llm::image, [&](auto& m) { m.usage(usage).set("output_tokens", 6); });
  EXPECT_EQ(attribute(stop, "nopspan.usage"), usage);
  EXPECT_THAT(stop, HasAttribute("gen_ai.usage.input_tokens", 5));
  EXPECT_THAT(stop, HasAttribute("gen_ai.usage.output_tokens", 6)) << "a field outside the map takes precedence";
}

TEST(SpanAttributes, OfAUsageMapAreThoseOfTheSetters) {
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const std::pair<const char*, const char*> keys[] = {
      {"input_tokens", "gen_ai.usage.input_tokens"},
      {"output_tokens", "gen_ai.usage.output_tokens"},
      {"cached_tokens", "gen_ai.usage.cache_read.input_tokens"},
      {"cache_creation_tokens", "gen_ai.usage.cache_creation.input_tokens"},
      {"reasoning_tokens", "gen_ai.usage.reasoning.output_tokens"},
      {"image_input_tokens", "gen_ai.usage.image.input_tokens"},
      {"text_output_tokens", "gen_ai.usage.text.output_tokens"},
      {"audio_cached_tokens", "gen_ai.usage.audio.cache_read.input_tokens"},
      {"total_cost", "gen_ai.usage.cost"}};
  Value usage = Value::map({{"total_tokens", 99}});
  int count = 0;
  for (const auto& each : keys) usage.set(each.first, ++count);
  const auto flat = stopped(llm::generate, [&](auto& m) { m.set("usage", usage); });
  count = 0;
  for (const auto& each : keys) EXPECT_THAT(flat, HasAttribute(each.second, ++count));
  const auto nested = stopped(llm::generate, [](auto& m) {
    m.set("usage", Value::map({{"tokens", Value::map({{"cached_tokens", 3}, {"image_input_tokens", 4}})}}));
    m.set("image_input_tokens", 5);
  });
  EXPECT_THAT(nested, HasAttribute("gen_ai.usage.cache_read.input_tokens", 3));
  EXPECT_THAT(nested, HasAttribute("gen_ai.usage.image.input_tokens", 5));
  EXPECT_EQ(dropped.times(), 0U);
  const Value mistyped = Value::map({{"input_tokens", 1}, {"inptu_tokens", 2}, {"x", nullptr}});
  EXPECT_THAT(stopped(llm::generate, [&](auto& m) { m.set("usage", mistyped); }),
              HasAttribute("gen_ai.usage.input_tokens", 1));
  EXPECT_EQ(dropped.times(), 1U);
  EXPECT_THAT(stopped("work", [&](Fields& f) { f.set("usage", mistyped); }), HasAttribute("usage", mistyped));
  EXPECT_EQ(dropped.times(), 1U) << "the whole map is an attribute";
}

TEST(SpanAttributes, CountNumbersThatAreNone) {
  const Counted unread(&nopspan::Stats::values_clamped);
  const SpanRecorder recorder("llm.generate");
  Span{llm::generate}
      .set("http_status", "503")
      .set("http_status", 503.0)
      .set("input_tokens", "5")
      .set("output_tokens", 5.0);
  EXPECT_EQ(unread.times(), 4U);
  EXPECT_THAT(recorder.stop(), HasStatus(Status::ok)) << "as the reference has it";
}

TEST(SpanAttributes, OfAFactAreThoseThatWereSetLast) {
  const auto stop = stopped(llm::generate, [](auto& m) {
    m.set("gen_ai.request.model", "a").model("b").input_tokens(1).set("gen_ai.usage.input_tokens", 2);
    m.set("gen_ai.response.finish_reasons", {"stop"}).set("gen_ai.usage.cost", 0.5);
  });
  EXPECT_THAT(stop, AllOf(HasAttribute("gen_ai.request.model", "b"), HasAttribute("gen_ai.usage.input_tokens", 2)));
  EXPECT_THAT(stop, AllOf(HasMetadata("model", "b"), HasMetadata("input_tokens", 2)));
  EXPECT_THAT(stop, HasAttribute("langfuse.observation.cost_details", R"({"total":0.5})"));
  EXPECT_EQ(attribute(stop, "gen_ai.response.finish_reasons"), Value::list({"stop"}));
  const auto queue = stopped(nopspan::engine::queue,
                             [](auto& m) { m.set("gen_ai.request.model", "m").set("gen_ai.response.model", "own"); });
  EXPECT_THAT(queue, AllOf(HasMetadata("model", "m"), HasAttribute("gen_ai.response.model", "own")));
}

TEST(SpanAttributes, OfAnEventNameTheModelThatWasAskedFor) {
  const Recorder recorder{"llm.cache.hit"};
  llm::execute("cache.hit", [](Fields& f) { f.model("m").measure("system_time", 7).measure("age", 8); });
  EXPECT_EQ(attributes_of(recorder.events().at(0)), Value::map({{"gen_ai.request.model", "m"}, {"age", 8}}));
  EXPECT_THAT(recorder.events()[0], HasMeasurement("system_time", 7));
}

TEST(SpanAttributes, OfAResultAreThoseOfAToolOnlyOnATool) {
  const Recorder recorder{"llm.tool.stop", "llm.generate.stop", "agent.operator.execute_complete"};
  const auto result = [](Fields& f) { f.set("result", "found"); };
  { const Span tool{"llm.tool", result}; }
  { const Span generate{"llm.generate", result}; }
  nopspan::execute("agent.operator.execute_complete", result);
  const auto events = events_of(recorder, 3);
  EXPECT_THAT(events[0], HasAttribute("gen_ai.tool.call.result", "found"));
  EXPECT_TRUE(events[0]->metadata("result").is_content());
  EXPECT_THAT(events[1], HasAttribute("result", "found"));
  EXPECT_FALSE(events[1]->metadata("result").is_content());
  EXPECT_THAT(events[2], HasAttribute("nopspan.result", "found"));
  EXPECT_TRUE(events[2]->metadata("result").is_content());
}

}  // namespace
