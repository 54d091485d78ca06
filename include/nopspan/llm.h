// SPDX-License-Identifier: Apache-2.0
// The llm catalogue: spans of an LLM client, and its retries.
//
//   nopspan::Span span{nopspan::llm::chat, [&](auto& m) { m.engine("llama.cpp").model(name); }};
//
// The names are ALLM.Telemetry's (https://hexdocs.pm/allm), under the prefix "llm".
#ifndef NOPSPAN_LLM_H
#define NOPSPAN_LLM_H

#include <nopspan/config.h>
#include <nopspan/errc.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/log_level.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>
#include <nopspan/text.h>

#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::llm {

namespace detail {
// CRTP so that a chain of setters keeps the builder's own type. What each is as an attribute: docs/genai.md.
template <class Self>
class Builder : public Fields {
 public:
  using Fields::Fields;
  Self& engine(Text name) { return put("engine", name); }
  Self& model(Text name) { return put("model", name); }
  Self& tenant(Text name) { return put("tenant", name); }
  Self& provider(Text name) { return put("provider", name); }  // the engine's name, if it is not set
  Self& label(Text key, Text value) {
    Fields::label(key, value);
    return static_cast<Self&>(*this);
  }
  Self& input_tokens(std::int64_t count) { return put("input_tokens", count); }
  Self& output_tokens(std::int64_t count) { return put("output_tokens", count); }
  Self& cached_tokens(std::int64_t count) { return put("cached_tokens", count); }
  Self& cache_creation_tokens(std::int64_t count) { return put("cache_creation_tokens", count); }
  Self& reasoning_tokens(std::int64_t count) { return put("reasoning_tokens", count); }

 protected:
  template <class T>
  Self& put(Text key, const T& value) {
    set(key, value);
    return static_cast<Self&>(*this);
  }
  template <class T>
  Self& put_content(Text key, const T& value) {
    content(key, value);
    return static_cast<Self&>(*this);
  }
};

// What a request to a model has, and its response.
template <class Self>
class InferenceBuilder : public Builder<Self> {
 public:
  using Builder<Self>::Builder;

  // The request, at the span's start. A number that the conventions call a double is one.
  Self& operation(Text name) { return this->put("operation", name); }  // "chat", if it is not set; "embedding", …
  Self& temperature(double value) { return this->put("temperature", value); }
  Self& top_p(double value) { return this->put("top_p", value); }
  Self& top_k(double value) { return this->put("top_k", value); }
  Self& max_tokens(std::int64_t count) { return this->put("max_tokens", count); }
  Self& frequency_penalty(double value) { return this->put("frequency_penalty", value); }
  Self& presence_penalty(double value) { return this->put("presence_penalty", value); }
  Self& stop_sequences(std::initializer_list<Text> texts) { return put_texts("stop_sequences", texts); }
  Self& seed(std::int64_t value) { return this->put("seed", value); }
  Self& choice_count(std::int64_t count) { return this->put("n", count); }
  Self& stream(bool on) { return this->put("stream", on); }
  Self& encoding_formats(std::initializer_list<Text> names) { return put_texts("encoding_formats", names); }
  Self& conversation_id(Text id) { return this->put("conversation_id", id); }
  Self& service_tier(Text name) { return this->put("service_tier", name); }
  Self& reasoning_effort(Text level) { return this->put("reasoning_effort", level); }
  Self& reasoning_budget_tokens(std::int64_t count) { return this->put("reasoning_budget_tokens", count); }
  // Where it goes. A path tells an OpenAI API's type ("/v1/responses").
  Self& server(Text address) { return this->put("server.address", address); }
  Self& server(Text address, std::int64_t port) { return server(address).put("server.port", port); }
  Self& server_path(Text path) { return this->put("server_path", path); }

  // The response, at its end.
  Self& response_id(Text id) { return this->put("response_id", id); }
  Self& response_model(Text name) { return this->put("response_model", name); }
  Self& finish_reason(Text reason) { return this->put("finish_reason", reason); }
  Self& finish_reasons(std::initializer_list<Text> reasons) { return put_texts("finish_reason", reasons); }
  Self& http_status(std::int64_t code) { return this->put("http_status", code); }
  Self& embedding_dimensions(std::int64_t count) { return this->put("dimensions", count); }
  Self& total_cost(double cost) { return this->put("total_cost", cost); }

  // Content: texts, or Values of the conventions' shape.
  template <class T>
  Self& system_instructions(const T& value) {
    return this->put_content("system_instructions", value);
  }
  template <class T>
  Self& input_messages(const T& value) {
    return this->put_content("input_messages", value);
  }
  template <class T>
  Self& output_messages(const T& value) {
    return this->put_content("output_messages", value);
  }
  template <class T>
  Self& tool_definitions(const T& value) {
    return this->put_content("tool_definitions", value);
  }

 private:
  Self& put_texts(Text key, std::initializer_list<Text> texts) {
    this->set(key, texts);
    return static_cast<Self&>(*this);
  }
};
}  // namespace detail

// Metadata of llm.generate and llm.stream.
class GenerateFields : public detail::InferenceBuilder<GenerateFields> {
 public:
  using InferenceBuilder::InferenceBuilder;
  template <class T>
  GenerateFields& response(const T& value) {
    return put_content("response", value);
  }
};

// Metadata of llm.step: one model call within a chat.
class StepFields : public detail::InferenceBuilder<StepFields> {
 public:
  using InferenceBuilder::InferenceBuilder;
  template <class T>
  StepFields& step_result(const T& value) {
    return put_content("step_result", value);
  }
};

// Metadata of llm.chat: a whole loop of steps and tools.
class ChatFields : public detail::InferenceBuilder<ChatFields> {
 public:
  using InferenceBuilder::InferenceBuilder;
  template <class T>
  ChatFields& chat_result(const T& value) {
    return put_content("chat_result", value);
  }
};

// Metadata of llm.tool: one tool call. Its end fires the `tool_call` probe with the tool's name.
class ToolFields : public detail::Builder<ToolFields> {
 public:
  using Builder::Builder;
  ToolFields& tool_call_id(Text id) { return put("tool_call_id", id); }
  ToolFields& tool_name(Text name) { return put("tool_name", name); }
  ToolFields& tool_type(Text type) { return put("tool_type", type); }  // function, extension, datastore
  ToolFields& tool_description(Text text) { return put("tool_description", text); }
  template <class T>
  ToolFields& arguments(const T& value) {
    return put_content("arguments", value);
  }
  template <class T>
  ToolFields& result(const T& value) {
    return put_content("result", value);
  }
};

// Metadata of llm.image.
class ImageFields : public detail::InferenceBuilder<ImageFields> {
 public:
  using InferenceBuilder::InferenceBuilder;
  ImageFields& operation(Text name) { return put("operation", name); }  // generate, edit, variation
  ImageFields& n(std::int64_t count) { return put("n", count); }
  ImageFields& image_count(std::int64_t count) {
    measure("image_count", count);
    return *this;
  }
  template <class T>
  ImageFields& usage(const T& value) {
    return put("usage", value);
  }
  template <class T>
  ImageFields& response(const T& value) {
    return put_content("response", value);
  }
  template <class T>
  ImageFields& error(const T& value) {
    return put_content("error", value);
  }
};

NOPSPAN_CONSTANT SpanName<GenerateFields> generate{"llm.generate"};
// `stream`, llm.stream, is in nopspan/stream.h.
NOPSPAN_CONSTANT SpanName<StepFields> step{"llm.step"};
NOPSPAN_CONSTANT SpanName<ChatFields> chat{"llm.chat"};
NOPSPAN_CONSTANT SpanName<ToolFields> tool{"llm.tool"};
NOPSPAN_CONSTANT SpanName<ImageFields> image{"llm.image"};

// The prefix of every name here.
constexpr std::string_view event_prefix() noexcept { return "llm"; }
// The names of all events: three of each span, and the retry's.
NOPSPAN_API EventNames event_names() noexcept;

namespace detail {
// "llm." + suffix, interned.
NOPSPAN_API NOPSPAN_COLD Name event_name(Text suffix) noexcept;
// The span called "llm." + name; null, if `name` is not one of the six. Static storage.
NOPSPAN_API const Name* find_span(Text name) noexcept;
// std::invalid_argument: unknown span name "x"; valid: chat, …
[[noreturn]] NOPSPAN_API NOPSPAN_COLD void throw_unknown_span(Text name);
}  // namespace detail

// Whether the catalogue has a span of that name ("chat"); for programs without exceptions.
inline bool has_span(Text name) noexcept { return detail::find_span(name) != nullptr; }

#if NOPSPAN_EXCEPTIONS
// A span whose name is known only at run time: "chat" for llm.chat. Throws std::invalid_argument, naming the valid
// ones, before `work` is called if there is no such span; this is nopspan's only throw.
template <class M, class Fn>
inline nopspan::detail::span_result_t<Fn> span(Text name, M&& metadata, Fn&& work) {
  const Name* known = detail::find_span(name);
  if (known == nullptr) detail::throw_unknown_span(name);
  return nopspan::span(SpanName<Fields>(*known), std::forward<M>(metadata), std::forward<Fn>(work));
}
template <class Fn>
inline nopspan::detail::span_result_t<Fn> span(Text name, Fn&& work) {
  return llm::span(
      name, [](Fields&) {}, std::forward<Fn>(work));
}
#endif

// Well-known reasons of a retry.
namespace retry_reason {
NOPSPAN_CONSTANT std::string_view rate_limit = "rate_limit";
NOPSPAN_CONSTANT std::string_view timeout = "timeout";
NOPSPAN_CONSTANT std::string_view provider_error = "provider_error";
}  // namespace retry_reason

// Metadata of a retry.
class RetryFields : public Fields {
 public:
  using Fields::Fields;
  RetryFields& attempt(std::int64_t number) { return put("attempt", number); }
  RetryFields& delay_ms(std::int64_t delay) { return put("delay_ms", delay); }
  RetryFields& reason(Text reason) { return put("reason", reason); }  // retry_reason::rate_limit, …
  RetryFields& status_code(std::int64_t code) { return put("status_code", code); }

 private:
  template <class T>
  RetryFields& put(Text key, const T& value) {
    set(key, value);
    return *this;
  }
};

NOPSPAN_CONSTANT Name adapter_retry{"llm.adapter.retry"};

// An attempt failed and will be made again; call it before the sleep. Event `llm.adapter.retry` to handlers
// (measurement system_time; metadata attempt, delay_ms, reason, request_id), probe `retry`.
template <class M>
inline void retry(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<RetryFields>(nopspan::detail::Point::retry, adapter_retry, nullptr, fields);
  }
}
// The same for a span that is named.
template <class M>
inline void retry(const Context& span, M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<RetryFields>(nopspan::detail::Point::retry, adapter_retry, &span, fields);
  }
}

// Emits the event "llm." + suffix ("adapter.retry") with what `fields(Fields&)` sets, and nothing else; as
// nopspan::execute(), for a name that is interned (see Name::intern()).
template <class M>
inline void execute(Text suffix, M&& fields) {
  if (nopspan::detail::points_wanted()) nopspan::execute(detail::event_name(suffix), fields);
}
// The same for a span that is named: a Span, an AsyncSpan or a Context.
template <class S, class M>
inline void execute(const S& span, Text suffix, M&& fields) {
  if (!nopspan::detail::points_wanted()) return;
  if constexpr (std::is_same_v<S, Context>) {
    nopspan::execute(span, detail::event_name(suffix), fields);
  } else {
    span.event(detail::event_name(suffix), fields);
  }
}

// Logs every event of the catalogue in a line, "[llm.chat.stop] request_id=… duration=… monotonic_time=…", to the sink
// of set_log_sink(); without one nothing below warning is shown. One handler, "llm-telemetry-default-logger":
// already_exists if it is attached, not_found if it is not. Thread-safe.
NOPSPAN_API Errc attach_default_logger(LogLevel level = LogLevel::debug) noexcept;
NOPSPAN_API Errc detach_default_logger() noexcept;

}  // namespace nopspan::llm

#endif  // NOPSPAN_LLM_H
