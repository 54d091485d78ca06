// SPDX-License-Identifier: Apache-2.0
/// @file
/// The engine catalogue: spans and gauges of an inference engine. It describes the server's side of a request.
///
/// @code
/// namespace engine = nopspan::engine;
/// nopspan::AsyncSpan span{engine::request, nopspan::Context::current(),
///                         [](auto& m) { m.model("llama-3").arrival_ns(1'000'000); }};
/// span.with<engine::RequestFields>([](auto& m) { m.queue_ns(2'000).prefill_ns(30'000).decode_ns(400'000); });
/// span.end();
///
/// engine::stats([](auto& m) { m.running(3).waiting(1).kv_cache_used(512).kv_cache_total(1024); });
/// @endcode
///
/// Thread safety: that of spans (span.h). stats() and event_names() may be called from any thread at any time.
#ifndef NOPSPAN_ENGINE_H
#define NOPSPAN_ENGINE_H

#include <nopspan/config.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/stream_meter.h>
#include <nopspan/text.h>

#include <cstdint>
#include <string_view>

/// The engine catalogue.
namespace nopspan::engine {

/// The setters that all spans of an engine have. They return the builder's own type. Programs do not use this class
/// directly.
template <class Self>
class CommonFields : public Fields {
 public:
  using Fields::Fields;
  /// The name of the engine; see Fields::engine().
  Self& engine(Text name) { return put("engine", name); }
  /// The name of the model; see Fields::model().
  Self& model(Text name) { return put("model", name); }
  /// The customer or user for whom the work is done; see Fields::tenant().
  Self& tenant(Text name) { return put("tenant", name); }
  /// A label; see Fields::label().
  Self& label(Text key, Text value) {
    Fields::label(key, value);
    return self();
  }

 protected:
  /// @cond INTERNAL
  template <class T>
  Self& put(Text key, const T& value) {
    set(key, value);
    return self();
  }
  Self& number(Text key, std::int64_t value) {
    measure(key, value);
    return self();
  }
  /// @endcond

 private:
  Self& self() { return static_cast<Self&>(*this); }
};

/// Metadata of engine.request: a request from its arrival to the last byte of its response. If queue_ns, prefill_ns or
/// decode_ns is set, the end of the span fires the probe `engine_request` with these times.
///
/// At the end, nopspan adds these values if the application did not set them and they can be computed:
///
/// | key | value |
/// | --- | --- |
/// | ttft_ns | time to first token: from arrival_ns to the first token; without arrival_ns, from the span's start |
/// | time_per_output_token_ns | decode_ns / (output_tokens - 1), rounded down; absent for fewer than two tokens |
/// | tokens_per_second | (output_tokens - 1) / decode time in seconds, a double; also absent if decode_ns is 0 |
/// | cancelled | metadata, a bool: whether the request was cancelled |
///
/// StreamMeter's time_to_first_token_ns is another value: it is always measured from the span's start.
///
/// A negative time or count, a time that is not a number, and a first token before the arrival are impossible. The
/// probes and these computations treat such a value as absent, and it is counted (stats().values_clamped). Handlers
/// receive it as it was set. In the rates, a count of more than 2^53 tokens is treated as 2^53.
class RequestFields : public CommonFields<RequestFields> {
 public:
  using CommonFields::CommonFields;
  /// Tokens of the prompt, including those from a cache.
  RequestFields& input_tokens(std::int64_t count) { return put("input_tokens", count); }
  /// Tokens that were generated.
  RequestFields& output_tokens(std::int64_t count) { return put("output_tokens", count); }
  /// Tokens of the prompt that came from a cache.
  RequestFields& cached_tokens(std::int64_t count) { return put("cached_tokens", count); }
  /// Generated tokens that the model used for reasoning.
  RequestFields& reasoning_tokens(std::int64_t count) { return put("reasoning_tokens", count); }
  /// Why the generation ended ("stop", "length").
  RequestFields& finish_reason(Text reason) { return put("finish_reason", reason); }

  /// When the request arrived, CLOCK_MONOTONIC in ns; 0 means unknown.
  RequestFields& arrival_ns(std::int64_t time) { return put("arrival_ns", time); }
  /// How long the request waited, in ns.
  RequestFields& queue_ns(std::int64_t time) { return number("queue_ns", time); }
  /// How long the prefill (processing the prompt) took, in ns.
  RequestFields& prefill_ns(std::int64_t time) { return number("prefill_ns", time); }
  /// How long the decode (generating tokens) took, in ns.
  RequestFields& decode_ns(std::int64_t time) { return number("decode_ns", time); }
  /// Tokens of the prompt that were processed, without those from a cache. If the request ended early, these may be
  /// fewer than the prompt has.
  RequestFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  /// How often the request was preempted.
  RequestFields& preemptions(std::int64_t count) { return number("preemptions", count); }
};

/// Metadata of engine.queue: a request waits.
class QueueFields : public CommonFields<QueueFields> {
 public:
  using CommonFields::CommonFields;
};

/// Metadata of engine.prefill: a request's prompt is processed. The token counts are measurements and not token usage,
/// because the usage belongs to engine.request.
class PrefillFields : public CommonFields<PrefillFields> {
 public:
  using CommonFields::CommonFields;
  /// Tokens that were processed.
  PrefillFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  /// Tokens that came from a cache and were not processed again.
  PrefillFields& cached_tokens(std::int64_t count) { return number("cached_tokens", count); }
};

/// Metadata of engine.decode: a request's tokens are generated.
class DecodeFields : public CommonFields<DecodeFields> {
 public:
  using CommonFields::CommonFields;
  /// Tokens that were generated.
  DecodeFields& decode_tokens(std::int64_t count) { return number("decode_tokens", count); }
};

/// Metadata of engine.step: one forward pass for many requests. The span has a link to each of them.
class StepFields : public CommonFields<StepFields> {
 public:
  using CommonFields::CommonFields;
  /// How many requests the pass served.
  StepFields& batch_size(std::int64_t count) { return number("batch_size", count); }
  /// Tokens of prompts that the pass processed.
  StepFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  /// Tokens that the pass generated.
  StepFields& decode_tokens(std::int64_t count) { return number("decode_tokens", count); }
  /// A request that the pass served; see Fields::link().
  StepFields& link(const Context& request) {
    Fields::link(request);
    return *this;
  }
};

/// @{
/// The name of a span: `AsyncSpan span{engine::request, parent, [&](auto& m) { m.model(name); }};`
NOPSPAN_CONSTANT SpanName<RequestFields> request{"engine.request"};
NOPSPAN_CONSTANT SpanName<QueueFields> queue{"engine.queue"};
NOPSPAN_CONSTANT SpanName<PrefillFields> prefill{"engine.prefill"};
NOPSPAN_CONSTANT SpanName<DecodeFields> decode{"engine.decode"};
NOPSPAN_CONSTANT SpanName<StepFields> step{"engine.step"};
/// @}

/// The gauges of an engine. A negative value does not reach the probes, and is counted (stats().values_clamped).
class StatsFields : public CommonFields<StatsFields> {
 public:
  using CommonFields::CommonFields;
  /// Requests that are being served.
  StatsFields& running(std::int64_t requests) { return number("running", requests); }
  /// Requests that wait.
  StatsFields& waiting(std::int64_t requests) { return number("waiting", requests); }
  /// Blocks of the KV cache in use.
  StatsFields& kv_cache_used(std::int64_t blocks) { return number("kv_cache_used", blocks); }
  /// Blocks that the KV cache has: the maximum of kv_cache_used.
  StatsFields& kv_cache_total(std::int64_t blocks) { return number("kv_cache_total", blocks); }
};

/// The event that handlers receive from stats().
NOPSPAN_CONSTANT Name stats_event{"engine.stats"};

/// Reports the gauges of an engine. `fields(StatsFields&)` runs only if a tracer or handler is attached. The probe
/// `gauge` fires once for each gauge that was set. Handlers receive one event engine.stats with all of them.
template <class M>
inline void stats(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<StatsFields>(nopspan::detail::Point::engine_stats, stats_event, nullptr, fields);
  }
}

/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "engine"; }
/// The names of all events: three for each span (start, stop, exception), and engine.stats.
NOPSPAN_API EventNames event_names() noexcept;

}  // namespace nopspan::engine

#endif  // NOPSPAN_ENGINE_H
