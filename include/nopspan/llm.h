// SPDX-License-Identifier: Apache-2.0
/// @file
/// The llm catalogue: spans of an LLM client with typed metadata, and retries. stream.h, which this header includes,
/// has wrappers for streamed responses.
///
/// @code
/// namespace llm = nopspan::llm;
/// int tokens = nopspan::span(
///     llm::chat, [](auto& m) { m.engine("llama.cpp").model("llama-3").temperature(0.2); },
///     [](nopspan::Span& span) {
///       llm::retry([](auto& r) { r.attempt(1).delay_ms(500).reason(llm::retry_reason::rate_limit); });
///       span.with<llm::ChatFields>([](auto& m) { m.output_tokens(34).finish_reason("stop"); });
///       return 34;
///     });
/// @endcode
///
/// The names are those of ALLM.Telemetry (https://hexdocs.pm/allm), with the prefix "llm". docs/genai.md lists the
/// attribute that each key becomes.
///
/// Thread safety: builders belong to the thread that runs the callable. The functions may be called from any thread at
/// any time.
#ifndef NOPSPAN_LLM_H
#define NOPSPAN_LLM_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/value_types.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>
#include <utility>
#if NOPSPAN_SHELL
#include <stdexcept>
#include <string>
#endif
NOPSPAN_SHELL_HEADER

/// The llm catalogue.
namespace NOPSPAN_NAMESPACE::llm {

/// What tokens stand for.
enum class Modality : unsigned char { text, image, audio };

namespace detail {
struct ModalityKeys {
  std::string_view input, output, cached;
};
NOPSPAN_CONSTANT ModalityKeys modality_keys[] = {{"text_input_tokens", "text_output_tokens", "text_cached_tokens"},
                                                 {"image_input_tokens", "image_output_tokens", "image_cached_tokens"},
                                                 {"audio_input_tokens", "audio_output_tokens", "audio_cached_tokens"}};
}  // namespace detail

/// The setters that all spans of the catalogue have. Programs do not use this class directly.
template <class Self>
class CommonFields : public BuilderOf<Self> {
 public:
  using BuilderOf<Self>::BuilderOf;
  /// The provider ("openai"). If it is not set, it is the engine's name.
  Self& provider(Text name) { return this->set("provider", name); }
  /// Tokens of the prompt that were written to a cache.
  Self& cache_creation_tokens(std::int64_t count) { return this->set("cache_creation_tokens", count); }
};

/// The setters for a request to a model and its response. Programs do not use this class directly.
template <class Self>
class InferenceFields : public CommonFields<Self> {
 public:
  using CommonFields<Self>::CommonFields;

  /// The operation: "chat" (the default), "embedding", "text_completion".
  Self& operation(Text name) { return this->set("operation", name); }
  /// Sampling temperature.
  Self& temperature(double value) { return this->set("temperature", value); }
  /// Nucleus sampling: the probability mass, 0 to 1.
  Self& top_p(double value) { return this->set("top_p", value); }
  /// Sampling from the k most likely tokens.
  Self& top_k(double value) { return this->set("top_k", value); }
  /// The most tokens that the response may have.
  Self& max_tokens(std::int64_t count) { return this->set("max_tokens", count); }
  /// The penalty for tokens that occur often.
  Self& frequency_penalty(double value) { return this->set("frequency_penalty", value); }
  /// The penalty for tokens that have occurred.
  Self& presence_penalty(double value) { return this->set("presence_penalty", value); }
  /// Texts at which the generation stops.
  Self& stop_sequences(std::initializer_list<Text> texts) { return this->set("stop_sequences", texts); }
  /// The same, for a vector or another range of texts.
  template <class Range, nopspan::detail::if_list<Range> = 0>
  Self& stop_sequences(const Range& texts) {
    return this->set("stop_sequences", texts);
  }
  /// Seed of the sampling.
  Self& seed(std::int64_t value) { return this->set("seed", value); }
  /// How many responses are asked for.
  Self& choice_count(std::int64_t count) { return this->set("n", count); }
  /// Whether the response is streamed.
  Self& stream(bool on) { return this->set("stream", on); }
  /// Formats of embeddings ("float", "base64").
  Self& encoding_formats(std::initializer_list<Text> names) { return this->set("encoding_formats", names); }
  /// The same, for a vector or another range of texts.
  template <class Range, nopspan::detail::if_list<Range> = 0>
  Self& encoding_formats(const Range& names) {
    return this->set("encoding_formats", names);
  }
  /// The conversation that the request belongs to.
  Self& conversation_id(Text id) { return this->set("conversation_id", id); }
  /// That the request has a compacted form of the conversation. Set it only if it has.
  Self& conversation_compacted() { return this->set("conversation_compacted", true); }
  /// The provider's id of an earlier response that the request continues.
  Self& previous_response_id(Text id) { return this->set("previous_response_id", id); }
  /// The name of the prompt template.
  Self& prompt_name(Text name) { return this->set("prompt_name", name); }
  /// The version of the prompt template.
  Self& prompt_version(Text version) { return this->set("prompt_version", version); }
  /// The provider's class of service.
  Self& service_tier(Text name) { return this->set("service_tier", name); }
  /// How much the model is asked to reason ("low", "high").
  Self& reasoning_effort(Text level) { return this->set("reasoning_effort", level); }
  /// The most tokens that the model may use for reasoning.
  Self& reasoning_budget_tokens(std::int64_t count) { return this->set("reasoning_budget_tokens", count); }
  /// Host name or address of the server.
  Self& server(Text address) { return this->set("server.address", address); }
  /// Host name or address, and port, of the server.
  Self& server(Text address, std::int64_t port) { return server(address).set("server.port", port); }
  /// Path of the request. It identifies the type of an OpenAI API ("/v1/responses").
  Self& server_path(Text path) { return this->set("server_path", path); }

  using BuilderOf<Self>::input_tokens;   ///< see FieldSetters
  using BuilderOf<Self>::output_tokens;  ///< see FieldSetters
  using BuilderOf<Self>::cached_tokens;  ///< see FieldSetters
  /// The tokens of the prompt of one modality. They are part of input_tokens(count).
  Self& input_tokens(Modality modality, std::int64_t count) {
    return this->set(detail::modality_keys[static_cast<std::size_t>(modality)].input, count);
  }
  /// The tokens of the response of one modality. They are part of output_tokens(count).
  Self& output_tokens(Modality modality, std::int64_t count) {
    return this->set(detail::modality_keys[static_cast<std::size_t>(modality)].output, count);
  }
  /// The tokens of the prompt of one modality that came from a cache. They are part of cached_tokens(count).
  Self& cached_tokens(Modality modality, std::int64_t count) {
    return this->set(detail::modality_keys[static_cast<std::size_t>(modality)].cached, count);
  }

  /// The provider's id of the response.
  Self& response_id(Text id) { return this->set("response_id", id); }
  /// The model that responded.
  Self& response_model(Text name) { return this->set("response_model", name); }
  /// Why the generation ended ("stop", "length", "tool_calls"). "error" makes the span's status error, unless the
  /// program sets a status.
  Self& finish_reason(Text reason) { return this->set("finish_reason", reason); }
  /// The same for several choices, in their order. The span's status is error if all are "error".
  Self& finish_reasons(std::initializer_list<Text> reasons) { return this->set("finish_reason", reasons); }
  /// The same, for a vector or another range of texts.
  template <class Range, nopspan::detail::if_list<Range> = 0>
  Self& finish_reasons(const Range& reasons) {
    return this->set("finish_reason", reasons);
  }
  /// Status of the HTTP response. From 400 on (from 500 on if the span is of kind server) the span's status is error,
  /// unless the program sets a status.
  Self& http_status(std::int64_t code) { return this->set("http_status", code); }
  /// Dimensions of the embedding.
  Self& embedding_dimensions(std::int64_t count) { return this->set("dimensions", count); }
  /// The cost of the request. genai.h computes it from a table of prices.
  Self& total_cost(double cost) { return this->set("total_cost", cost); }

  /// Content: the instructions to the model, as text, or as a Value that follows the GenAI conventions.
  template <class T>
  Self& system_instructions(const T& value) {
    return this->content("system_instructions", value);
  }
  /// Content: the messages to the model.
  template <class T>
  Self& input_messages(const T& value) {
    return this->content("input_messages", value);
  }
  /// Content: the messages of the model.
  template <class T>
  Self& output_messages(const T& value) {
    return this->content("output_messages", value);
  }
  /// Content: the tools that the model may call.
  template <class T>
  Self& tool_definitions(const T& value) {
    return this->content("tool_definitions", value);
  }
};

/// Metadata of llm.generate and llm.stream.
class GenerateFields : public InferenceFields<GenerateFields> {
 public:
  using InferenceFields::InferenceFields;
  /// Content: the response.
  template <class T>
  GenerateFields& response(const T& value) {
    return content("response", value);
  }
};

/// Metadata of llm.step: one call of a model in a chat.
class StepFields : public InferenceFields<StepFields> {
 public:
  using InferenceFields::InferenceFields;
  /// Content: the result of the step.
  template <class T>
  StepFields& step_result(const T& value) {
    return content("step_result", value);
  }
};

/// Metadata of llm.chat: a whole loop of steps and tools.
class ChatFields : public InferenceFields<ChatFields> {
 public:
  using InferenceFields::InferenceFields;
  /// Content: the result of the chat.
  template <class T>
  ChatFields& chat_result(const T& value) {
    return content("chat_result", value);
  }
};

/// Metadata of llm.tool: one tool call. The end of the span fires the probe `tool_call` with the tool's name.
class ToolFields : public CommonFields<ToolFields> {
 public:
  using CommonFields::CommonFields;
  /// The model's id of the call.
  ToolFields& tool_call_id(Text id) { return set("tool_call_id", id); }
  /// The name of the tool.
  ToolFields& tool_name(Text name) { return set("tool_name", name); }
  /// The type of the tool: "function", "extension" or "datastore".
  ToolFields& tool_type(Text type) { return set("tool_type", type); }
  /// A description of the tool.
  ToolFields& tool_description(Text text) { return set("tool_description", text); }
  /// Content: the arguments of the call.
  template <class T>
  ToolFields& arguments(const T& value) {
    return content("arguments", value);
  }
  /// Content: what the tool returned.
  template <class T>
  ToolFields& result(const T& value) {
    return content("result", value);
  }
};

/// Metadata of llm.image.
class ImageFields : public InferenceFields<ImageFields> {
 public:
  using InferenceFields::InferenceFields;
  /// "generate", "edit" or "variation".
  ImageFields& operation(Text name) { return set("operation", name); }
  /// How many images are asked for.
  ImageFields& n(std::int64_t count) { return set("n", count); }
  /// How many images were made: a measurement. If it is not set and the span ends as failed, it is 0.
  ImageFields& image_count(std::int64_t count) { return measure("image_count", count); }
  /// The usage: a map of tokens (see genai.h) and of what the provider counts beside them, for example images. It
  /// becomes the attribute nopspan.usage. Its tokens become the attributes that they are on other spans.
  template <class T>
  ImageFields& usage(const T& value) {
    return set("usage", value);
  }
  /// Content: the response.
  template <class T>
  ImageFields& response(const T& value) {
    return content("response", value);
  }
  /// Content: the error. Unless it is null, the span's status is 1 (error), if the program does not set a status.
  template <class T>
  ImageFields& error(const T& value) {
    return content("error", value);
  }
};

/// @{
/// The name of a span: `Span span{llm::chat, [&](auto& m) { m.model(name); }};` (llm::stream is in stream.h).
NOPSPAN_CONSTANT SpanName<GenerateFields> generate{"llm.generate"};
NOPSPAN_CONSTANT SpanName<StepFields> step{"llm.step"};
NOPSPAN_CONSTANT SpanName<ChatFields> chat{"llm.chat"};
NOPSPAN_CONSTANT SpanName<ToolFields> tool{"llm.tool"};
NOPSPAN_CONSTANT SpanName<ImageFields> image{"llm.image"};
/// @}

/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "llm"; }
/// The names of all events: three for each span (start, stop, exception), and llm.adapter.retry.
NOPSPAN_API EventNames event_names() noexcept NOPSPAN_IN_SHELL(return {});

namespace detail {
// "llm." + suffix, interned.
NOPSPAN_API NOPSPAN_COLD Name event_name(Text suffix) noexcept NOPSPAN_IN_SHELL(return "llm");
// The span called "llm." + name; null, if `name` is not one of the six. Static storage.
NOPSPAN_API const Name* find_span(Text name) noexcept;
// std::invalid_argument: unknown span name "x"; valid: chat, …
[[noreturn]] NOPSPAN_API NOPSPAN_COLD void throw_unknown_span(Text name);

#if NOPSPAN_SHELL
inline const Name* find_span(Text name) noexcept {
  static constexpr const Name* kSpans[] = {&chat, &generate, &image, &step, &stream, &tool};
  for (const Name* span : kSpans) {
    if (span->view().substr(event_prefix().size() + 1) == name.view()) return span;
  }
  return nullptr;
}
inline void throw_unknown_span(Text name) {
#if NOPSPAN_EXCEPTIONS
  throw std::invalid_argument("unknown span name \"" + std::string(name.view()) +
                              "\"; valid: chat, generate, image, step, stream, tool");
#else
  __builtin_unreachable();
#endif
}
#endif
}  // namespace detail

/// Whether the catalogue has a span of that name ("chat").
inline bool has_span(Text name) noexcept { return detail::find_span(name) != nullptr; }

#if NOPSPAN_EXCEPTIONS
/// Runs `work` inside a span whose name is known only at run time: "chat" for llm.chat. See nopspan::span().
///
/// @throw std::invalid_argument if the catalogue has no such span; see has_span(). The message lists the valid names.
///        It is thrown before `work` is called.
template <class M, class Fn>
inline nopspan::detail::span_result_t<Fn> span(Text name, M&& metadata, Fn&& work) {
  const Name* known = detail::find_span(name);
  if (known == nullptr) detail::throw_unknown_span(name);
  return nopspan::span(SpanName<Fields>(*known), std::forward<M>(metadata), std::forward<Fn>(work));
}
/// @overload
template <class Fn>
inline nopspan::detail::span_result_t<Fn> span(Text name, Fn&& work) {
  return llm::span(
      name, [](Fields&) {}, std::forward<Fn>(work));
}
#endif

/// Well-known reasons of a retry.
namespace retry_reason {
/// @{
/// For RetryFields::reason().
NOPSPAN_CONSTANT std::string_view rate_limit = "rate_limit";
NOPSPAN_CONSTANT std::string_view timeout = "timeout";
NOPSPAN_CONSTANT std::string_view provider_error = "provider_error";
/// @}
}  // namespace retry_reason

/// Metadata of a retry.
class RetryFields : public BuilderOf<RetryFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The number of the attempt that failed. The first attempt is 1.
  RetryFields& attempt(std::int64_t number) { return set("attempt", number); }
  /// How long the program waits before the next attempt, in ms.
  RetryFields& delay_ms(Milliseconds delay) { return set("delay_ms", delay.count()); }
  /// Why the attempt failed: retry_reason::rate_limit, or a reason of the program's own.
  RetryFields& reason(Text reason) { return set("reason", reason); }
  /// The HTTP status of the attempt that failed.
  RetryFields& status_code(std::int64_t code) { return set("status_code", code); }
};

/// The event that handlers receive from retry().
NOPSPAN_CONSTANT Name adapter_retry{"llm.adapter.retry"};

/// Reports that an attempt failed and will be repeated. Call it before the wait. The event belongs to the thread's
/// current span. The probe `retry` fires. Handlers receive llm.adapter.retry, with the measurement system_time and the
/// metadata attempt, delay_ms, reason and request_id, and they receive gen_ai.retry, which is also the name that
/// tracers receive. `fields(RetryFields&)` runs only if a tracer or handler is attached.
template <class M>
inline void retry(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<RetryFields>(nopspan::detail::Point::retry, adapter_retry, ContextRef::current(), fields);
  }
}
/// The same, but the event belongs to `span`: a Span, an AsyncSpan or a Context.
template <class M>
inline void retry(ContextRef span, M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<RetryFields>(nopspan::detail::Point::retry, adapter_retry, span, fields);
  }
}

/// Emits the event "llm." + suffix ("cache.hit"), which has only the fields that `fields(Fields&)` sets; see
/// nopspan::execute(). "adapter.retry" is a retry, as retry() reports it: the probe `retry` fires. The name is made at
/// run time; see Name for the limit. Without a callable the event has no fields.
template <class M>
inline void execute(Text suffix, M&& fields) {
  if (nopspan::detail::points_wanted()) nopspan::execute(detail::event_name(suffix), fields);
}
/// @overload
inline void execute(Text suffix) {
  llm::execute(suffix, [](Fields&) {});
}
/// The same for an event that belongs to `span`: a Span, an AsyncSpan or a Context.
template <class M>
inline void execute(ContextRef span, Text suffix, M&& fields) {
  if (nopspan::detail::points_wanted()) nopspan::execute(span, detail::event_name(suffix), fields);
}
/// @overload
inline void execute(ContextRef span, Text suffix) {
  llm::execute(span, suffix, [](Fields&) {});
}

/// Attaches a handler that logs every event of the catalogue as one line, for example `[llm.chat.stop] request_id=…
/// duration=… monotonic_time=…`. The lines go to the sink of set_log_sink(). The default sink writes them to stderr,
/// whatever their level is.
///
/// @return ok; already_exists if it is attached already; out_of_memory.
NOPSPAN_API Errc attach_default_logger(LogLevel level = LogLevel::debug) noexcept NOPSPAN_IN_SHELL(return Errc::ok);
/// Detaches the handler of attach_default_logger().
///
/// @return ok; not_found if it is not attached; out_of_memory.
NOPSPAN_API Errc detach_default_logger() noexcept NOPSPAN_IN_SHELL(return Errc::ok);

}  // namespace NOPSPAN_NAMESPACE::llm

#endif  // NOPSPAN_LLM_H
