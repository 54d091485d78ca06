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
/// Spans and events of your own may have names below `engine.` too, for example "engine.sampler".
///
/// engine.queue, engine.prefill, engine.decode and engine.step have the engine and the model of the request, or of the
/// context that is current on the thread. The labels of a request that began before a tracer attached are not known.
/// Therefore the loop of an engine has a scope with them:
///
/// @code
/// const nopspan::Context labels = nopspan::Context().with_label("engine", "my-engine").with_label("model", "llama-3");
/// const nopspan::ContextScope scope{labels};
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
#include <nopspan/step.h>
#include <nopspan/stream_meter.h>
#include <nopspan/text.h>
#include <nopspan/time.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

/// The engine catalogue.
namespace nopspan::engine {

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
class RequestFields : public BuilderOf<RequestFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Why the generation ended ("stop", "length").
  RequestFields& finish_reason(Text reason) { return set("finish_reason", reason); }

  /// When the request arrived; 0 means unknown.
  RequestFields& arrival_ns(Time time) { return set("arrival_ns", static_cast<std::int64_t>(time.ns())); }
  /// How long the request waited.
  RequestFields& queue_ns(Duration time) { return measure("queue_ns", time.count()); }
  /// How long the prefill (processing the prompt) took.
  RequestFields& prefill_ns(Duration time) { return measure("prefill_ns", time.count()); }
  /// How long the decode (generating tokens) took.
  RequestFields& decode_ns(Duration time) { return measure("decode_ns", time.count()); }
  /// Tokens of the prompt that were processed, without those from a cache. If the request ended early, these may be
  /// fewer than the prompt has.
  RequestFields& prefill_tokens(std::int64_t count) { return measure("prefill_tokens", count); }
  /// How often the request was preempted.
  RequestFields& preemptions(std::int64_t count) { return measure("preemptions", count); }
};

/// Metadata of engine.queue: a request waits.
class QueueFields : public BuilderOf<QueueFields> {
 public:
  using BuilderOf::BuilderOf;
};

/// Metadata of engine.prefill: a request's prompt is processed. The token counts are measurements and not token usage,
/// because the usage belongs to engine.request.
class PrefillFields : public BuilderOf<PrefillFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Tokens that were processed.
  PrefillFields& prefill_tokens(std::int64_t count) { return measure("prefill_tokens", count); }
  /// Tokens that came from a cache and were not processed again.
  PrefillFields& cached_tokens(std::int64_t count) { return measure("cached_tokens", count); }
};

/// Metadata of engine.decode: a request's tokens are generated.
class DecodeFields : public BuilderOf<DecodeFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Tokens that were generated.
  DecodeFields& decode_tokens(std::int64_t count) { return measure("decode_tokens", count); }
};

/// Metadata of engine.step: one forward pass for many requests, its members. A step is never a request, whether or not
/// it has members. The counts that are not set are the sums of the members.
///
/// A link to a request (FieldSetters::link()) also adds a member, without tokens.
class StepFields : public BuilderOf<StepFields> {
 public:
  using BuilderOf::BuilderOf;
  /// How many requests the pass served.
  StepFields& batch_size(std::int64_t count) { return measure("batch_size", count); }
  /// Tokens of prompts that the pass processed.
  StepFields& prefill_tokens(std::int64_t count) { return measure("prefill_tokens", count); }
  /// Tokens that the pass generated.
  StepFields& decode_tokens(std::int64_t count) { return measure("decode_tokens", count); }
  /// Tokens that drafts proposed, and the pass verified.
  StepFields& drafted_tokens(std::int64_t count) { return put(nopspan::detail::StepFact::drafted, count); }
  /// How many of the drafted tokens the pass accepted.
  StepFields& accepted_tokens(std::int64_t count) { return put(nopspan::detail::StepFact::accepted, count); }
  /// Tokens that the scheduler could have given to the pass.
  StepFields& budget_tokens(std::int64_t count) { return put(nopspan::detail::StepFact::budget, count); }
  /// How long the pass took on the host.
  StepFields& host_ns(Duration time) { return put(nopspan::detail::StepFact::host_ns, time.count()); }
  /// How long the pass took on the device.
  StepFields& device_ns(Duration time) { return put(nopspan::detail::StepFact::device_ns, time.count()); }
  /// What the pass does. If it is not set, it follows from the members, or from the tokens if there are none.
  StepFields& kind(StepKind kind) { return put(nopspan::detail::StepFact::kind, static_cast<std::int64_t>(kind)); }
  /// A number of the engine that is unique in the process, if the process has several.
  StepFields& instance(std::uint64_t number) {
    nopspan::detail::put_step(sink(), nopspan::detail::StepFact::instance, number);
    return *this;
  }
  /// The number of the step, counted by its engine. Readers use it to find missing steps.
  StepFields& number(std::uint64_t number) {
    nopspan::detail::put_step(sink(), nopspan::detail::StepFact::number, number);
    return *this;
  }

  /// Adds a request that the pass served.
  StepFields& member(const Member& member) { return members(&member, 1); }
  /// Adds `count` requests that the pass served. It copies them at once. A step has at most 1,048,576 members. More,
  /// and those for which there is no memory, are dropped and counted (Step::dropped, stats().members_dropped). Readers
  /// get those with prefill_tokens first, and otherwise in this order. That costs nothing if they already come first.
  StepFields& members(const Member* members, std::size_t count) {
    nopspan::detail::put_members(sink(), members, count);
    return *this;
  }

 private:
  StepFields& put(nopspan::detail::StepFact fact, std::int64_t value) {
    nopspan::detail::put_step(sink(), fact, static_cast<std::uint64_t>(value));
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
class StatsFields : public BuilderOf<StatsFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Requests that are being served.
  StatsFields& running(std::int64_t requests) { return measure("running", requests); }
  /// Requests that wait.
  StatsFields& waiting(std::int64_t requests) { return measure("waiting", requests); }
  /// Blocks of the KV cache in use.
  StatsFields& kv_cache_used(std::int64_t blocks) { return measure("kv_cache_used", blocks); }
  /// Blocks that the KV cache has: the maximum of kv_cache_used.
  StatsFields& kv_cache_total(std::int64_t blocks) { return measure("kv_cache_total", blocks); }
};

/// The event that handlers receive from stats().
NOPSPAN_CONSTANT Name stats_event{"engine.stats"};

/// Reports the gauges of an engine. `fields(StatsFields&)` runs only if a tracer or handler is attached. The probe
/// `gauge` fires once for each gauge that was set. Handlers receive one event engine.stats with all of them.
template <class M>
inline void stats(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<StatsFields>(nopspan::detail::Point::engine_stats, stats_event, ContextRef::current(),
                                        fields);
  }
}

/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "engine"; }
/// The names of all events: three for each span (start, stop, exception), and engine.stats.
NOPSPAN_API EventNames event_names() noexcept;

}  // namespace nopspan::engine

#endif  // NOPSPAN_ENGINE_H
