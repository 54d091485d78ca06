// SPDX-License-Identifier: Apache-2.0
// The llm catalogue: spans of an LLM client, and its retries.
//
//   nopspan::Span span{nopspan::llm::chat, [&](auto& m) { m.engine("llama.cpp").model(name); }};
//
// The names are ALLM.Telemetry's (https://hexdocs.pm/allm), under the prefix "llm".
#ifndef NOPSPAN_LLM_H
#define NOPSPAN_LLM_H

#include <nopspan/config.h>
#include <nopspan/events.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>
#include <nopspan/text.h>

#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>

namespace nopspan::llm {

namespace detail {
// CRTP so that a chain of setters keeps the builder's own type.
template <class Self>
class Builder : public Fields {
 public:
  using Fields::Fields;
  Self& engine(Text name) { return put("engine", name); }
  Self& model(Text name) { return put("model", name); }
  Self& tenant(Text name) { return put("tenant", name); }
  Self& label(Text key, Text value) {
    Fields::label(key, value);
    return static_cast<Self&>(*this);
  }
  Self& input_tokens(std::int64_t count) { return put("input_tokens", count); }
  Self& output_tokens(std::int64_t count) { return put("output_tokens", count); }
  Self& cached_tokens(std::int64_t count) { return put("cached_tokens", count); }
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
}  // namespace detail

// Metadata of llm.generate and llm.stream.
class GenerateFields : public detail::Builder<GenerateFields> {
 public:
  using Builder::Builder;
  template <class T>
  GenerateFields& response(const T& value) {
    return put_content("response", value);
  }
};

// Metadata of llm.step: one model call within a chat.
class StepFields : public detail::Builder<StepFields> {
 public:
  using Builder::Builder;
  template <class T>
  StepFields& step_result(const T& value) {
    return put_content("step_result", value);
  }
};

// Metadata of llm.chat: a whole loop of steps and tools.
class ChatFields : public detail::Builder<ChatFields> {
 public:
  using Builder::Builder;
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
  template <class T>
  ToolFields& result(const T& value) {
    return put_content("result", value);
  }
};

// Metadata of llm.image.
class ImageFields : public detail::Builder<ImageFields> {
 public:
  using Builder::Builder;
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

namespace detail {
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

}  // namespace nopspan::llm

#endif  // NOPSPAN_LLM_H
