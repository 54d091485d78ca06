// SPDX-License-Identifier: Apache-2.0
// The GenAI span events: moments in the life of a request to a model, which a trace's timeline shows inside its span.
// Names and keys are autotel's (https://github.com/jagreehal/autotel).
//
//   nopspan::genai::prompt_sent([&](auto& event) { event.model("gpt-4o").message_count(3); });
//
// Each belongs to the thread's current span, or to the one that is named: a Span, an AsyncSpan, or a Context. They set
// nothing on the span. Handlers get an event of the name, probes `event`. The callable runs only if somebody listens.
#ifndef NOPSPAN_GENAI_EVENTS_H
#define NOPSPAN_GENAI_EVENTS_H

#include <nopspan/config.h>
#include <nopspan/detail/named_event.h>
#include <nopspan/fields.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/text.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace nopspan::genai {

namespace detail {

// A number keeps whether it is an integer or a double. An empty text is left out.
template <class Self>
class EventFields : public Fields {
 public:
  using Fields::Fields;

 protected:
  template <class T>
  Self& number(Text key, T value) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>, "an integer or a double");
    set(key, value);
    return static_cast<Self&>(*this);
  }
  Self& text(Text key, Text value) {
    if (!value.empty()) set(key, value);
    return static_cast<Self&>(*this);
  }
};

NOPSPAN_API NOPSPAN_COLD void put_finish_reasons(nopspan::detail::FieldSink*, const Text* reasons,
                                                 std::size_t count) noexcept;

// One of the five.
template <class F, nopspan::detail::Point point = nopspan::detail::Point::event>
using SpanEvent = nopspan::detail::NamedEvent<F, point>;

}  // namespace detail

class PromptSentFields : public detail::EventFields<PromptSentFields> {
 public:
  using EventFields::EventFields;
  PromptSentFields& model(Text name) { return text("gen_ai.request.model", name); }
  // An estimate, made before the call.
  template <class T>
  PromptSentFields& prompt_tokens(T count) {
    return number("gen_ai.usage.input_tokens", count);
  }
  template <class T>
  PromptSentFields& message_count(T count) {
    return number("gen_ai.request.message_count", count);
  }
  PromptSentFields& operation(Text name) { return text("gen_ai.operation.name", name); }
};

class ResponseReceivedFields : public detail::EventFields<ResponseReceivedFields> {
 public:
  using EventFields::EventFields;
  ResponseReceivedFields& model(Text name) { return text("gen_ai.response.model", name); }
  template <class T>
  ResponseReceivedFields& prompt_tokens(T count) {
    return number("gen_ai.usage.input_tokens", count);
  }
  template <class T>
  ResponseReceivedFields& completion_tokens(T count) {
    return number("gen_ai.usage.output_tokens", count);
  }
  template <class T>
  ResponseReceivedFields& total_tokens(T count) {
    return number("gen_ai.usage.total_tokens", count);
  }
  // One for each choice, in order. Handlers see them joined by ",", probes a list.
  ResponseReceivedFields& finish_reasons(const Text* reasons, std::size_t count) {
    detail::put_finish_reasons(sink(), reasons, count);
    return *this;
  }
  ResponseReceivedFields& finish_reasons(std::initializer_list<Text> reasons) {
    return finish_reasons(reasons.begin(), reasons.size());
  }
};

class RetryFields : public detail::EventFields<RetryFields> {
 public:
  using EventFields::EventFields;
  template <class T>
  RetryFields& attempt(T number_of_it) {
    return number("retry.attempt", number_of_it);
  }
  RetryFields& reason(Text reason) { return text("retry.reason", reason); }  // llm::retry_reason::rate_limit, …
  template <class T>
  RetryFields& delay_ms(T delay) {
    return number("retry.delay_ms", delay);
  }
  template <class T>
  RetryFields& status_code(T code) {
    return number("http.response.status_code", code);
  }
};

class ToolCallFields : public detail::EventFields<ToolCallFields> {
 public:
  using EventFields::EventFields;
  ToolCallFields& tool_name(Text name) {  // an empty one is kept
    set("gen_ai.tool.name", name);
    return *this;
  }
  ToolCallFields& tool_call_id(Text id) { return text("gen_ai.tool.call.id", id); }
  // As they were sent: content.
  ToolCallFields& arguments(Text serialised) {
    if (!serialised.empty()) content("gen_ai.tool.arguments", serialised);
    return *this;
  }
};

class StreamFirstTokenFields : public detail::EventFields<StreamFirstTokenFields> {
 public:
  using EventFields::EventFields;
  template <class T>
  StreamFirstTokenFields& tokens_so_far(T count) {
    return number("gen_ai.stream.tokens_so_far", count);
  }
};

// The prompt goes to the provider.
NOPSPAN_CONSTANT detail::SpanEvent<PromptSentFields> prompt_sent{"gen_ai.prompt.sent"};
// The response is here; of a stream, all of it.
NOPSPAN_CONSTANT detail::SpanEvent<ResponseReceivedFields> response_received{"gen_ai.response.received"};
// An attempt failed and will be made again; call it before the sleep. llm::retry() emits this one too, and feeds the
// probe `retry`: use that inside an llm span.
NOPSPAN_CONSTANT detail::SpanEvent<RetryFields> retry{"gen_ai.retry"};
// The model asked for a tool. Several may occur in one response; the run of the tool is a span, llm::tool.
NOPSPAN_CONSTANT detail::SpanEvent<ToolCallFields> tool_call{"gen_ai.tool.call"};
// The first token of a stream came now. The span's first token too, where it had none and is a scope of this thread
// (the probe `first_token`): Span::first_token() does both.
NOPSPAN_CONSTANT detail::SpanEvent<StreamFirstTokenFields, nopspan::detail::Point::first_token> stream_first_token{
    "gen_ai.stream.first_token"};

}  // namespace nopspan::genai

#endif  // NOPSPAN_GENAI_EVENTS_H
