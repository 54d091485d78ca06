// SPDX-License-Identifier: Apache-2.0
/// @file
/// Spans for operations of OpenTelemetry's GenAI conventions that the llm and agent catalogues do not have: retrieval,
/// memory, and the invocation of an agent or a workflow. The name of each span is "gen_ai." and its operation. And
/// events: points in time of a request to a model, which a timeline shows inside the request's span. Names and keys of
/// the events are those of autotel (https://github.com/jagreehal/autotel), except evaluation_result.
///
/// @code
/// namespace genai = nopspan::genai;
/// nopspan::span(
///     genai::search_memory, [](auto& m) { m.store_id("preferences").query("diet"); },
///     [](nopspan::Span& span) { span.with<genai::MemoryFields>([](auto& m) { m.record_count(3); }); });
/// genai::evaluation_result("relevance", [](auto& event) { event.score(0.9).label("relevant"); });
///
/// nopspan::Span span{"llm.chat"};
/// genai::prompt_sent([](auto& event) { event.model("gpt-4o").message_count(3); });
/// genai::tool_call(span, "calculator", [](auto& event) { event.tool_call_id("call-1"); });
/// @endcode
///
/// The keys of spans are the conventions' own, unless docs/genai.md has a shorter one.
///
/// An event belongs to the thread's current span. For another span, pass a Span, AsyncSpan or Context before the other
/// arguments. The event sets no field on that span. Handlers receive an event of that name, and the probe `event`
/// fires. The callable runs only if a tracer or handler is attached. An empty text is ignored by the fields of events,
/// except by EvaluationFields and where a setter's comment says otherwise.
///
/// Thread safety: builders belong to the thread that runs the callable. Events may be emitted from any thread at any
/// time.
#ifndef NOPSPAN_GENAI_SPANS_H
#define NOPSPAN_GENAI_SPANS_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::genai {

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

template <class Self>
class EventFields : public BuilderOf<Self> {
 public:
  using BuilderOf<Self>::BuilderOf;

 protected:
  template <class T>
  Self& number(Text key, T value) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>, "an integer or a double");
    return this->set(key, value);
  }
  Self& text(Text key, Text value) { return value.empty() ? static_cast<Self&>(*this) : this->set(key, value); }
};

NOPSPAN_API NOPSPAN_COLD void put_finish_reasons(nopspan::detail::FieldSink*, const Text* reasons,
                                                 std::size_t count) noexcept NOPSPAN_IN_SHELL();

template <class F, nopspan::detail::Point point = nopspan::detail::Point::event>
using SpanEvent = nopspan::detail::NamedEvent<F, point>;
template <class F>
using RequiringEvent = nopspan::detail::RequiringEvent<F, nopspan::detail::Point::event>;

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
  /// @cond INTERNAL
  using Required = Text;
  void require(Text name) { set("gen_ai.evaluation.name", name); }
  /// @endcond
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

/// A response was evaluated. The first argument is the name of the evaluation ("relevance").
NOPSPAN_CONSTANT detail::RequiringEvent<EvaluationFields> evaluation_result{"gen_ai.evaluation.result"};

/// Fields of prompt_sent.
class PromptSentFields : public detail::EventFields<PromptSentFields> {
 public:
  using EventFields::EventFields;
  /// The model that is asked for.
  PromptSentFields& model(Text name) { return text("gen_ai.request.model", name); }
  /// Tokens of the prompt: an estimate that is made before the call.
  template <class T>
  PromptSentFields& prompt_tokens(T count) {
    return number("gen_ai.usage.input_tokens", count);
  }
  /// Messages of the prompt.
  template <class T>
  PromptSentFields& message_count(T count) {
    return number("gen_ai.request.message_count", count);
  }
  /// The operation: "chat", "embedding".
  PromptSentFields& operation(Text name) { return text("gen_ai.operation.name", name); }
};

/// Fields of response_received.
class ResponseReceivedFields : public detail::EventFields<ResponseReceivedFields> {
 public:
  using EventFields::EventFields;
  /// The model that responded.
  ResponseReceivedFields& model(Text name) { return text("gen_ai.response.model", name); }
  /// Tokens of the prompt.
  template <class T>
  ResponseReceivedFields& prompt_tokens(T count) {
    return number("gen_ai.usage.input_tokens", count);
  }
  /// Tokens of the response.
  template <class T>
  ResponseReceivedFields& completion_tokens(T count) {
    return number("gen_ai.usage.output_tokens", count);
  }
  /// Tokens of both.
  template <class T>
  ResponseReceivedFields& total_tokens(T count) {
    return number("gen_ai.usage.total_tokens", count);
  }
  /// Why the generation ended: one reason for each choice, in order. Handlers receive them joined by ",", probes
  /// receive a list.
  ResponseReceivedFields& finish_reasons(const Text* reasons, std::size_t count) {
    detail::put_finish_reasons(sink(), reasons, count);
    return *this;
  }
  /// The same.
  ResponseReceivedFields& finish_reasons(std::initializer_list<Text> reasons) {
    return finish_reasons(reasons.begin(), reasons.size());
  }
};

/// Fields of retry.
class RetryFields : public detail::EventFields<RetryFields> {
 public:
  using EventFields::EventFields;
  /// @cond INTERNAL
  using Required = double;
  template <class T>
  void require(T attempt) {
    number("retry.attempt", attempt);
  }
  /// @endcond
  /// Why the attempt failed: llm::retry_reason::rate_limit, or a reason of the program's own.
  RetryFields& reason(Text reason) { return text("retry.reason", reason); }
  /// How long the program waits before the next attempt: a number of ms, or a std::chrono duration.
  template <class T>
  RetryFields& delay_ms(T delay) {
    if constexpr (nopspan::detail::is_duration<T>) {
      return number("retry.delay_ms", Milliseconds(delay).count());
    } else {
      return number("retry.delay_ms", delay);
    }
  }
  /// The HTTP status of the attempt that failed.
  template <class T>
  RetryFields& status_code(T code) {
    return number("http.response.status_code", code);
  }
};

/// Fields of tool_call.
class ToolCallFields : public detail::EventFields<ToolCallFields> {
 public:
  using EventFields::EventFields;
  /// @cond INTERNAL
  using Required = Text;
  void require(Text name) { set("gen_ai.tool.name", name); }
  /// @endcond
  /// The model's id of the call.
  ToolCallFields& tool_call_id(Text id) { return text("gen_ai.tool.call.id", id); }
  /// Content: the arguments, as the model sent them.
  ToolCallFields& arguments(Text serialised) {
    if (!serialised.empty()) content("gen_ai.tool.arguments", serialised);
    return *this;
  }
};

/// Fields of stream_first_token.
class StreamFirstTokenFields : public detail::EventFields<StreamFirstTokenFields> {
 public:
  using EventFields::EventFields;
  /// Tokens so far, including the first.
  template <class T>
  StreamFirstTokenFields& tokens_so_far(T count) {
    return number("gen_ai.stream.tokens_so_far", count);
  }
};

/// The prompt is sent to the provider.
NOPSPAN_CONSTANT detail::SpanEvent<PromptSentFields> prompt_sent{"gen_ai.prompt.sent"};
/// The response has arrived completely, whether or not it was streamed.
NOPSPAN_CONSTANT detail::SpanEvent<ResponseReceivedFields> response_received{"gen_ai.response.received"};
/// An attempt failed and will be repeated. Emit it before the wait. The probe `retry` fires instead of `event`, and
/// handlers also receive llm.adapter.retry. llm::retry() reports the same, so call only one of the two. The first
/// argument is the number of the attempt that failed. The first attempt is 1:
/// `genai::retry(1, [](auto& r) { r.reason("timeout"); })`.
NOPSPAN_CONSTANT detail::RequiringEvent<RetryFields> retry{"gen_ai.retry"};
/// The model asked for a tool. One response may have several. The run of the tool is a span, llm::tool. The first
/// argument is the name of the tool. An empty one is kept.
NOPSPAN_CONSTANT detail::RequiringEvent<ToolCallFields> tool_call{"gen_ai.tool.call"};
/// The first token of a stream arrived now. If the span has had no first token, this also sets the span's first token,
/// and the probe `first_token` fires. Span::first_token() does all of this. The span must be a scope of this thread, or
/// be given to the event.
NOPSPAN_CONSTANT detail::SpanEvent<StreamFirstTokenFields, nopspan::detail::Point::first_token> stream_first_token{
    "gen_ai.stream.first_token"};

/// The names of the events of these spans: three for each span (start, stop, exception).
NOPSPAN_API EventNames span_event_names() noexcept NOPSPAN_IN_SHELL(return {});

}  // namespace NOPSPAN_NAMESPACE::genai

#endif  // NOPSPAN_GENAI_SPANS_H
