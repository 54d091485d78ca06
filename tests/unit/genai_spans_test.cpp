// SPDX-License-Identifier: Apache-2.0
// The spans of genai_spans.h, their attributes, names and metrics, and the event of an evaluation.
#include "recorded.h"

#include <nopspan/genai.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>

#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace {

namespace genai = nopspan::genai;
namespace llm = nopspan::llm;
using nopspan::SpanKind;

// The attributes, without the request's id.
Value own_attributes(const nopspan::OwnedEvent& event) {
  Value::Map map;
  for (auto& [key, value] : event->attributes().copy().as_map()) {
    if (key != "nopspan.request_id") map.emplace_back(key, std::move(value));
  }
  return map;
}

template <class F, class Fill>
nopspan::OwnedEvent stop_of_span(const nopspan::SpanName<F>& name, const Fill& fill,
                                 nopspan::SpanOptions options = {}) {
  const SpanRecorder recorder(name.view());
  { const Span span{name, options, fill}; }
  return recorder.stop();
}

std::vector<std::string> metric_names(const nopspan::OwnedEvent& event) {
  std::vector<std::string> names;
  for (const genai::Metric& metric : genai::metrics(*event)) names.emplace_back(metric.name);
  return names;
}

TEST(GenAiSpans, OfARetrievalFollowTheConventions) {
  const auto stop = stop_of_span(genai::retrieval, [](auto& m) {
    m.provider("openai").data_source_id("docs").top_k(5).query("capital?").server("a", 1);
    m.documents(Value::list({Value::map({{"id", "d1"}, {"score", 0.5}})}));
  });
  EXPECT_EQ(own_attributes(stop),
            Value::map({{"gen_ai.provider.name", "openai"},
                        {"gen_ai.operation.name", "retrieval"},
                        {"gen_ai.request.top_k", 5},
                        {"server.address", "a"},
                        {"server.port", 1},
                        {"gen_ai.data_source.id", "docs"},
                        {"gen_ai.retrieval.query.text", "capital?"},
                        {"gen_ai.retrieval.documents", Value::list({Value::map({{"id", "d1"}, {"score", 0.5}})})}}));
  EXPECT_EQ(kind_of(stop), SpanKind::client);
  EXPECT_EQ(genai::span_name(*stop), "retrieval docs");
  EXPECT_THAT(metric_names(stop), ElementsAre("gen_ai.client.operation.duration"));
  EXPECT_THAT(stop, AllOf(HasContent("gen_ai.retrieval.query.text"), HasContent("gen_ai.retrieval.documents")));
}

TEST(GenAiSpans, OfMemoryAreNamedByTheirOperation) {
  for (const auto& [name, operation] :
       {std::pair(genai::create_memory_store, "create_memory_store"),
        std::pair(genai::delete_memory_store, "delete_memory_store"), std::pair(genai::create_memory, "create_memory"),
        std::pair(genai::update_memory, "update_memory"), std::pair(genai::upsert_memory, "upsert_memory"),
        std::pair(genai::delete_memory, "delete_memory"), std::pair(genai::search_memory, "search_memory")}) {
    const auto stop = stop_of_span(name, [](auto& m) { m.store_id("s").record_id("r").record_count(3).model("m"); });
    EXPECT_EQ(own_attributes(stop).find("gen_ai.operation.name")->as_string(), operation);
    EXPECT_EQ(genai::span_name(*stop), operation);
    EXPECT_EQ(kind_of(stop), SpanKind::client);
    EXPECT_EQ(*own_attributes(stop).find("gen_ai.memory.store.id"), Value("s"));
    EXPECT_EQ(*own_attributes(stop).find("gen_ai.memory.record.id"), Value("r"));
    EXPECT_EQ(*own_attributes(stop).find("gen_ai.memory.record.count"), Value(3));
  }
}

TEST(GenAiSpans, OfMemoryMarkItsContentHoweverItIsSet) {
  const auto stop = stop_of_span(genai::search_memory, [](auto& m) {
    m.set("gen_ai.memory.query.text", "diet").records(Value::list({Value::map({{"content", "vegan"}})}));
  });
  EXPECT_THAT(stop, AllOf(HasContent("gen_ai.memory.query.text"), HasContent("gen_ai.memory.records")));
}

TEST(GenAiSpans, OfAnAgentRecordItsDurationAndCalls) {
  const auto stop = stop_of_span(genai::invoke_agent, [](auto&) {});
  EXPECT_EQ(kind_of(stop), SpanKind::internal);
  const SpanRecorder recorder("gen_ai.invoke_agent");
  Span{genai::invoke_agent, [](auto& m) { m.agent_name("math").agent_version("2").conversation_id("c"); }}
      .with<genai::AgentFields>([](auto& m) { m.inference_calls(3).tool_calls(0); });
  const auto ended = recorder.stop();
  EXPECT_EQ(genai::span_name(*ended), "invoke_agent math");
  const std::vector<genai::Metric> metrics = genai::metrics(*ended);
  ASSERT_THAT(metrics, SizeIs(3));
  EXPECT_EQ(metrics[0].name, "gen_ai.invoke_agent.duration");
  EXPECT_EQ(metrics[0].unit, "s");
  const std::int64_t whole_us = ended->duration_ns() / 1000;
  EXPECT_EQ(metrics[0].value.as_double(), static_cast<double>(whole_us) / 1e6);
  EXPECT_EQ(metrics[0].boundary_count, 13U);
  EXPECT_EQ(metrics[1].name, "gen_ai.invoke_agent.inference_calls");
  EXPECT_EQ(metrics[1].unit, "{inference_call}");
  EXPECT_EQ(metrics[1].value, Value(3));
  EXPECT_EQ(metrics[1].boundary_count, 8U);
  EXPECT_EQ(metrics[2].name, "gen_ai.invoke_agent.tool_calls");
  EXPECT_EQ(metrics[2].value, Value(0));
  for (const genai::Metric& metric : metrics) {
    EXPECT_EQ(metric.attributes, Value::map({{"gen_ai.agent.name", "math"}}));
  }
}

TEST(GenAiSpans, OfARemoteAgentRecordAClientsDuration) {
  const auto stop = stop_of_span(
      genai::invoke_agent, [](auto& m) { m.agent_name("math"); }, SpanKind::client);
  EXPECT_THAT(metric_names(stop), ElementsAre("gen_ai.client.operation.duration"));
}

TEST(GenAiSpans, OfAWorkflowRecordItsDurationAndError) {
  const SpanRecorder recorder("gen_ai.invoke_workflow");
  Span{genai::invoke_workflow, [](auto& m) { m.workflow_name("triage").input_messages("hello"); }}.fail("timeout");
  const auto stop = recorder.stop();
  EXPECT_EQ(genai::span_name(*stop), "invoke_workflow triage");
  const std::vector<genai::Metric> metrics = genai::metrics(*stop);
  ASSERT_THAT(metrics, SizeIs(1));
  EXPECT_EQ(metrics[0].name, "gen_ai.invoke_workflow.duration");
  EXPECT_EQ(metrics[0].boundary_count, 11U);
  EXPECT_EQ(metrics[0].attributes, Value::map({{"gen_ai.workflow.name", "triage"}, {"error.type", "timeout"}}));
}

TEST(GenAiSpans, OfAToolRecordItsDuration) {
  for (const char* name : {"llm.tool", "agent.tool"}) {
    const SpanRecorder recorder(name);
    short_span(name, [](Fields& f) { f.set("tool_name", "search").set("tool_type", "function"); });
    const std::vector<genai::Metric> metrics = genai::metrics(*recorder.stop());
    ASSERT_THAT(metrics, SizeIs(1)) << name;
    EXPECT_EQ(metrics[0].name, "gen_ai.execute_tool.duration");
    EXPECT_EQ(metrics[0].boundary_count, 14U);
    EXPECT_EQ(metrics[0].attributes, Value::map({{"gen_ai.tool.name", "search"}, {"gen_ai.tool.type", "function"}}));
  }
}

TEST(GenAiSpans, OfAPlanRecordNothing) {
  const auto stop = stop_of_span(genai::plan, [](auto& m) { m.agent_name("math"); });
  EXPECT_EQ(genai::span_name(*stop), "plan math");
  EXPECT_THAT(metric_names(stop), IsEmpty());
}

TEST(GenAiSpans, HaveTheirNamesInAList) {
  const std::vector<std::string> names = genai::span_event_names();
  EXPECT_THAT(names, SizeIs(36));
  EXPECT_THAT(std::set<std::string>(names.begin(), names.end()), SizeIs(36));
  for (const std::string& name : names) EXPECT_EQ(name.rfind("gen_ai.", 0), 0U) << name;
}

TEST(GenAiSpans, MayHaveOtherNamesOfTheApplicationsOwn) {
  const std::uint64_t before = nopspan::stats().names_unknown;
  const SpanRecorder recorder("gen_ai.rerank");
  { const Span span{"gen_ai.rerank"}; }
  { const Span span{"mcp.session"}; }
  EXPECT_EQ(nopspan::stats().names_unknown, before);
  EXPECT_EQ(own_attributes(recorder.stop()), Value::map());
}

TEST(Evaluation, IsAnEventOfTheSpanThatIsNamed) {
  const Recorder recorder{"gen_ai.evaluation.result"};
  const AsyncSpan chat{llm::chat, Context()};
  genai::evaluation_result(chat, [](auto& event) {
    event.evaluation("relevance").score(0.25).label("irrelevant").explanation("it says 7").response_id("r");
  });
  const auto event = recorder.events().at(0);
  EXPECT_EQ(event->span_id(), id_of(chat));
  EXPECT_EQ(own_attributes(event), Value::map({{"gen_ai.evaluation.name", "relevance"},
                                               {"gen_ai.evaluation.score.value", 0.25},
                                               {"gen_ai.evaluation.score.label", "irrelevant"},
                                               {"gen_ai.evaluation.explanation", "it says 7"},
                                               {"gen_ai.response.id", "r"}}));
  EXPECT_THAT(event, HasContent("gen_ai.evaluation.explanation"));
}

TEST(Tokens, MayBeCountedByModality) {
  using llm::Modality;
  const auto stop = stop_of_span(llm::chat, [](auto& m) {
    m.input_tokens(100).input_tokens(Modality::text, 60).input_tokens(Modality::image, 40);
    m.output_tokens(7).output_tokens(Modality::audio, 7);
    m.cached_tokens(10).cached_tokens(Modality::text, 10);
  });
  const Value attributes = own_attributes(stop);
  for (const auto& [key, count] :
       {std::pair("gen_ai.usage.input_tokens", 100), std::pair("gen_ai.usage.text.input_tokens", 60),
        std::pair("gen_ai.usage.image.input_tokens", 40), std::pair("gen_ai.usage.output_tokens", 7),
        std::pair("gen_ai.usage.audio.output_tokens", 7), std::pair("gen_ai.usage.cache_read.input_tokens", 10),
        std::pair("gen_ai.usage.text.cache_read.input_tokens", 10)}) {
    ASSERT_NE(attributes.find(key), nullptr) << key;
    EXPECT_EQ(*attributes.find(key), Value(count)) << key;
  }
  EXPECT_EQ(attributes.find("gen_ai.usage.audio.input_tokens"), nullptr);
}

TEST(Request, NamesItsPromptAndTheResponseThatItContinues) {
  const auto stop = stop_of_span(llm::chat, [](auto& m) {
    m.prompt_name("support").prompt_version("3").previous_response_id("resp_1").conversation_compacted();
  });
  const Value attributes = own_attributes(stop);
  EXPECT_EQ(*attributes.find("gen_ai.prompt.name"), Value("support"));
  EXPECT_EQ(*attributes.find("gen_ai.prompt.version"), Value("3"));
  EXPECT_EQ(*attributes.find("gen_ai.request.previous_response.id"), Value("resp_1"));
  EXPECT_EQ(*attributes.find("gen_ai.conversation.compacted"), Value(true));
}

}  // namespace
