// SPDX-License-Identifier: Apache-2.0
/// @file
/// The GenAI span events: points in time of a request to a model, which a timeline shows inside the request's span.
/// Names and keys are those of autotel (https://github.com/jagreehal/autotel).
///
/// @code
/// nopspan::Span span{"llm.chat"};
/// nopspan::genai::prompt_sent([](auto& event) { event.model("gpt-4o").message_count(3); });
/// nopspan::genai::tool_call(span, [](auto& event) { event.tool_name("calculator"); });
/// @endcode
///
/// An event belongs to the thread's current span. For another span, pass a Span, AsyncSpan or Context as the first
/// argument. The event sets no field on that span. Handlers receive an event of that name, and the probe `event` fires.
/// The callable runs only if a tracer or handler is attached. An empty text is ignored, unless a setter's comment says
/// otherwise.
///
/// Thread safety: events may be emitted from any thread at any time.
#ifndef NOPSPAN_GENAI_EVENTS_H
#define NOPSPAN_GENAI_EVENTS_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/named_event.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace nopspan::genai {

namespace detail {

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
                                                 std::size_t count) noexcept;

template <class F, nopspan::detail::Point point = nopspan::detail::Point::event>
using SpanEvent = nopspan::detail::NamedEvent<F, point>;
template <class F>
using DescribedEvent = nopspan::detail::NamedEvent<F, nopspan::detail::Point::event, true>;

}  // namespace detail

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
  /// The number of the attempt that failed. The first attempt is 1.
  template <class T>
  RetryFields& attempt(T number_of_it) {
    return number("retry.attempt", number_of_it);
  }
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
  /// The name of the tool. An empty one is kept.
  ToolCallFields& tool_name(Text name) { return set("gen_ai.tool.name", name); }
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
/// handlers also receive llm.adapter.retry. llm::retry() reports the same, so call only one of the two. An attempt() is
/// required: without a callable, the call does not compile.
NOPSPAN_CONSTANT detail::DescribedEvent<RetryFields> retry{"gen_ai.retry"};
/// The model asked for a tool. One response may have several. The run of the tool is a span, llm::tool. A tool_name()
/// is required, as for a retry.
NOPSPAN_CONSTANT detail::DescribedEvent<ToolCallFields> tool_call{"gen_ai.tool.call"};
/// The first token of a stream arrived now. If the span is a scope of this thread and has had no first token, this also
/// sets the span's first token, and the probe `first_token` fires. Span::first_token() does all of this.
NOPSPAN_CONSTANT detail::SpanEvent<StreamFirstTokenFields, nopspan::detail::Point::first_token> stream_first_token{
    "gen_ai.stream.first_token"};

}  // namespace nopspan::genai

#endif  // NOPSPAN_GENAI_EVENTS_H
