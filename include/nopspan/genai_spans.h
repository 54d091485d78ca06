// SPDX-License-Identifier: Apache-2.0
/// @file
/// Spans for operations of OpenTelemetry's GenAI conventions that the llm and agent catalogues do not have: retrieval,
/// memory, and the invocation of an agent or a workflow. The name of each span is "gen_ai." and its operation.
///
/// @code
/// namespace genai = nopspan::genai;
/// nopspan::span(
///     genai::search_memory, [](auto& m) { m.store_id("preferences").query("diet"); },
///     [](nopspan::Span& span) { span.with<genai::MemoryFields>([](auto& m) { m.record_count(3); }); });
/// genai::evaluation_result([](auto& event) { event.evaluation("relevance").score(0.9).label("relevant"); });
/// @endcode
///
/// The keys are the conventions' own, unless docs/genai.md has a shorter one.
///
/// Thread safety: builders belong to the thread that runs the callable. Events may be emitted from any thread at any
/// time.
#ifndef NOPSPAN_GENAI_SPANS_H
#define NOPSPAN_GENAI_SPANS_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/named_event.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstdint>

namespace nopspan::genai {

namespace detail {

template <class Self>
class ServiceFields : public BuilderOf<Self> {
 public:
  using BuilderOf<Self>::BuilderOf;
  /// The provider ("openai"), if an external service does the operation.
  Self& provider(Text name) { return this->set("provider", name); }
  /// Host name or address of the server.
  Self& server(Text address) { return this->set("server.address", address); }
  /// Host name or address, and port, of the server.
  Self& server(Text address, std::int64_t port) { return server(address).set("server.port", port); }
};

}  // namespace detail

/// Metadata of gen_ai.retrieval: documents are fetched from a vector database or a search system.
class RetrievalFields : public detail::ServiceFields<RetrievalFields> {
 public:
  using ServiceFields::ServiceFields;
  /// The data source that is searched.
  RetrievalFields& data_source_id(Text id) { return set("gen_ai.data_source.id", id); }
  /// The most documents that are asked for.
  RetrievalFields& top_k(std::int64_t documents) { return set("top_k", documents); }
  /// Content: the query.
  RetrievalFields& query(Text text) { return content("gen_ai.retrieval.query.text", text); }
  /// Content: the documents that were found, each a map with `id` and `score`.
  template <class T>
  RetrievalFields& documents(const T& list) {
    return content("gen_ai.retrieval.documents", list);
  }
};

/// Metadata of an operation on a memory store or on its records.
class MemoryFields : public detail::ServiceFields<MemoryFields> {
 public:
  using ServiceFields::ServiceFields;
  /// The store.
  MemoryFields& store_id(Text id) { return set("gen_ai.memory.store.id", id); }
  /// The record, if the operation is for one.
  MemoryFields& record_id(Text id) { return set("gen_ai.memory.record.id", id); }
  /// How many records a search returned, or another operation was to create, change or delete.
  MemoryFields& record_count(std::int64_t count) { return set("gen_ai.memory.record.count", count); }
  /// Content: the query of a search.
  MemoryFields& query(Text text) { return content("gen_ai.memory.query.text", text); }
  /// Content: the records, each a map with `content`.
  template <class T>
  MemoryFields& records(const T& list) {
    return content("gen_ai.memory.records", list);
  }
};

/// Metadata of gen_ai.invoke_agent, gen_ai.create_agent and gen_ai.plan.
class AgentFields : public detail::ServiceFields<AgentFields> {
 public:
  using ServiceFields::ServiceFields;
  /// The agent's name.
  AgentFields& agent_name(Text name) { return set("agent_name", name); }
  /// The agent's id at the service that hosts it. Not the id of an object in this process.
  AgentFields& agent_id(Text id) { return set("agent_id", id); }
  /// A description of the agent.
  AgentFields& agent_description(Text text) { return set("agent_description", text); }
  /// The agent's version.
  AgentFields& agent_version(Text version) { return set("agent_version", version); }
  /// The conversation that the invocation belongs to.
  AgentFields& conversation_id(Text id) { return set("conversation_id", id); }
  /// How many calls of a model the invocation made, failed ones included: a measurement.
  AgentFields& inference_calls(std::int64_t count) { return measure("inference_calls", count); }
  /// How many tools the invocation ran, failed ones included: a measurement.
  AgentFields& tool_calls(std::int64_t count) { return measure("tool_calls", count); }
  /// Content: the instructions to the agent.
  template <class T>
  AgentFields& system_instructions(const T& value) {
    return content("system_instructions", value);
  }
  /// Content: the messages to the agent.
  template <class T>
  AgentFields& input_messages(const T& value) {
    return content("input_messages", value);
  }
  /// Content: the messages of the agent.
  template <class T>
  AgentFields& output_messages(const T& value) {
    return content("output_messages", value);
  }
};

/// Metadata of gen_ai.invoke_workflow: a process that coordinates agents and other operations.
class WorkflowFields : public BuilderOf<WorkflowFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The workflow's name.
  WorkflowFields& workflow_name(Text name) { return set("gen_ai.workflow.name", name); }
  /// Content: the messages to the workflow.
  template <class T>
  WorkflowFields& input_messages(const T& value) {
    return content("input_messages", value);
  }
  /// Content: the messages of the workflow.
  template <class T>
  WorkflowFields& output_messages(const T& value) {
    return content("output_messages", value);
  }
};

/// @{
/// The name of a span. Its kind is client. For a store in this process, set SpanOptions::kind to SpanKind::internal.
NOPSPAN_CONSTANT SpanName<RetrievalFields> retrieval{"gen_ai.retrieval"};
NOPSPAN_CONSTANT SpanName<MemoryFields> create_memory_store{"gen_ai.create_memory_store"};
NOPSPAN_CONSTANT SpanName<MemoryFields> delete_memory_store{"gen_ai.delete_memory_store"};
NOPSPAN_CONSTANT SpanName<MemoryFields> create_memory{"gen_ai.create_memory"};
NOPSPAN_CONSTANT SpanName<MemoryFields> update_memory{"gen_ai.update_memory"};
NOPSPAN_CONSTANT SpanName<MemoryFields> upsert_memory{"gen_ai.upsert_memory"};
NOPSPAN_CONSTANT SpanName<MemoryFields> delete_memory{"gen_ai.delete_memory"};
NOPSPAN_CONSTANT SpanName<MemoryFields> search_memory{"gen_ai.search_memory"};
NOPSPAN_CONSTANT SpanName<AgentFields> create_agent{"gen_ai.create_agent"};
/// @}
/// @{
/// The name of a span. Its kind is internal. For an agent of another service, set SpanOptions::kind to
/// SpanKind::client.
NOPSPAN_CONSTANT SpanName<AgentFields> invoke_agent{"gen_ai.invoke_agent"};
NOPSPAN_CONSTANT SpanName<AgentFields> plan{"gen_ai.plan"};
NOPSPAN_CONSTANT SpanName<WorkflowFields> invoke_workflow{"gen_ai.invoke_workflow"};
/// @}

/// Fields of evaluation_result.
class EvaluationFields : public BuilderOf<EvaluationFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The name of the evaluation ("relevance").
  EvaluationFields& evaluation(Text name) { return set("gen_ai.evaluation.name", name); }
  /// The score.
  EvaluationFields& score(double value) { return set("gen_ai.evaluation.score.value", value); }
  /// The score in words ("relevant", "pass").
  EvaluationFields& label(Text text) { return set("gen_ai.evaluation.score.label", text); }
  /// Content: the reason for the score, because it may quote the response.
  EvaluationFields& explanation(Text text) { return content("gen_ai.evaluation.explanation", text); }
  /// The provider's id of the response, if the event cannot belong to the span of that response.
  EvaluationFields& response_id(Text id) { return set("gen_ai.response.id", id); }
  /// The type of the error, if the evaluation failed.
  EvaluationFields& error_type(Text type) { return set("error.type", type); }
};

/// A response was evaluated. The event belongs to the thread's current span. For another span, pass that span (a Span,
/// AsyncSpan or Context) as the first argument. Handlers receive it, and the probe `event` fires. An evaluation() is
/// required: without a callable, the call does not compile.
NOPSPAN_CONSTANT nopspan::detail::NamedEvent<EvaluationFields, nopspan::detail::Point::event, true> evaluation_result{
    "gen_ai.evaluation.result"};

/// The names of the events of these spans: three for each span (start, stop, exception).
NOPSPAN_API EventNames span_event_names() noexcept;

}  // namespace nopspan::genai

#endif  // NOPSPAN_GENAI_SPANS_H
