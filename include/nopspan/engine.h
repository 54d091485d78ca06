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
/// A step has members: what it did for each of the requests in its batch. A handler of engine.step.stop reads them.
///
/// @code
/// // What a pass did for the request that the engine knows as 42. engine::StepFields::members() reports it.
/// const nopspan::Context request = nopspan::Context::current();
/// nopspan::engine::Member member = nopspan::engine::Member::of(request, 42);
/// member.context_tokens = 1000;
/// member.decode_tokens = 1;
/// @endcode
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

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
NOPSPAN_SHELL_HEADER

/// The engine catalogue.
namespace NOPSPAN_NAMESPACE::engine {

/// What a step did for one request. It has the layout of struct nopspan_member (nopspan/probes.h). A number over 65,535
/// does not fit into some of the fields. Then set 65,535, and give the step the sum, for example by decode_tokens() of
/// StepFields.
struct Member {
  std::uint64_t request = 0;          ///< the span id of the request, or a key; see `flags` and of()
  std::uint32_t prefill_tokens = 0;   ///< tokens of the prompt that the step processed
  std::uint32_t context_tokens = 0;   ///< tokens of the request in the KV cache before the step
  std::uint16_t decode_tokens = 0;    ///< tokens that the step generated
  std::uint16_t drafted_tokens = 0;   ///< tokens that a draft proposed, and the step verified
  std::uint16_t accepted_tokens = 0;  ///< how many of them it accepted
  std::uint16_t flags = 0;            ///< kOwnKey, kTraceKey

  /// `request` is not a span id, but a key of the engine's own.
  static constexpr std::uint16_t kOwnKey = 1;
  /// With kOwnKey: the key is the first eight bytes of the request's trace id, as they are in memory. of() and
  /// of_trace() set it.
  static constexpr std::uint16_t kTraceKey = 2;

  /// A member without tokens. `request` is the span engine.request, or a context in it. If the context is of another
  /// process (extract()), the member names the request by its trace id, as of_trace() does. If the span is not
  /// recorded, for example because the request began before a tracer attached, `own_key` identifies the request
  /// instead. It is any number that the process gives to this request alone, and that is the same in all steps. If the
  /// process has several engines, they must not use the same keys.
  [[nodiscard]] static Member of(ContextRef request, std::uint64_t own_key) noexcept {
    Member member;
    member.request = request.recorded_id();
    if (member.request == 0) member.set_key(request.trace_key(true), own_key);
    return member;
  }
  /// The same for a request whose span engine.request is in another process: `request` names it by its trace id. Its
  /// phases in this process have the same trace id. If the context is empty, `own_key` identifies the request.
  [[nodiscard]] static Member of_trace(ContextRef request, std::uint64_t own_key) noexcept {
    Member member;
    member.set_key(request.trace_key(false), own_key);
    return member;
  }

 private:
  void set_key(std::uint64_t trace_key, std::uint64_t own_key) noexcept {
    request = trace_key != 0 ? trace_key : own_key;
    flags = trace_key != 0 ? kOwnKey | kTraceKey : kOwnKey;
  }
};
static_assert(sizeof(Member) == 24);

/// What a step does for its members. The numbers are those of NOPSPAN_STEP_* (nopspan/probes.h).
enum class StepKind : std::uint8_t {
  unknown = 0,
  prefill = 1,  ///< it processes prompts
  decode = 2,   ///< it generates tokens
  mixed = 3,    ///< both
};

/// The facts of a step, for handlers. A count or time of 0 may also mean that it is unknown.
struct Step {
  StepKind kind = StepKind::unknown;       ///< as the application gave it; otherwise as the members are
  std::uint64_t instance = 0;              ///< the application's number of the engine
  std::uint64_t number = 0;                ///< of the step, counted by its engine
  std::uint32_t members = 0;               ///< how many members it has
  std::uint32_t members_with_prefill = 0;  ///< how many of them have prefill_tokens; they come first
  std::uint32_t dropped = 0;               ///< members for which there was no memory, or over the limit
  std::uint32_t batch_size = 0;            ///< as the application gave it; otherwise members + dropped
  std::uint64_t prefill_tokens = 0;        ///< as the application gave them; otherwise the sum of the members
  std::uint64_t decode_tokens = 0;         ///< the same
  std::uint64_t drafted_tokens = 0;        ///< the same
  std::uint64_t accepted_tokens = 0;       ///< the same
  std::uint64_t budget_tokens = 0;         ///< tokens that the scheduler could have given to the step
  std::uint64_t host_ns = 0;               ///< time that the step took on the host
  std::uint64_t device_ns = 0;             ///< time that it took on the device
  std::uint64_t kv_used = 0;               ///< cells of the KV cache that it attended to, or that were in use
};

namespace detail {

// The facts of speculative decoding, which a request, its decoding and its steps have.
template <class Self>
class SpeculationFields : public BuilderOf<Self> {
 public:
  using BuilderOf<Self>::BuilderOf;
  /// How often a draft was verified.
  Self& drafts(std::int64_t count) { return this->measure("drafts", count); }
  /// Tokens that the drafts proposed.
  Self& drafted_tokens(std::int64_t count) { return this->measure("drafted_tokens", count); }
  /// How many of the drafted tokens were accepted.
  Self& accepted_tokens(std::int64_t count) { return this->measure("accepted_tokens", count); }
};

}  // namespace detail

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
/// A negative time or count, a time that is not a number, a queue_ns, prefill_ns or decode_ns that is longer than the
/// request (by more than 1 ms), and a first token before the arrival are impossible. The probes and these computations
/// treat such a value as absent, and it is counted (stats().values_clamped). Handlers receive it as it was set, but not
/// as an attribute. In the rates, a count of more than 2^53 tokens is treated as 2^53.
class RequestFields : public detail::SpeculationFields<RequestFields> {
 public:
  using SpeculationFields::SpeculationFields;
  /// The limit of the response's tokens that the client asked for.
  RequestFields& max_tokens(std::int64_t count) { return set("max_tokens", count); }
  /// How many responses the client asked for.
  RequestFields& n(std::int64_t count) { return set("n", count); }
  /// Why the generation ended ("stop", "length").
  RequestFields& finish_reason(Text reason) { return set("finish_reason", reason); }
  /// The adapter (LoRA) that the request uses.
  RequestFields& adapter(Text name) { return set("adapter", name); }

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
  /// Tokens that decode steps generated: usually one fewer than output_tokens, because the prefill makes the first.
  RequestFields& decode_tokens(std::int64_t count) { return measure("decode_tokens", count); }
  /// How often the request was preempted.
  RequestFields& preemptions(std::int64_t count) { return measure("preemptions", count); }
  /// Tokens that were processed again after a preemption, or because blocks had been evicted.
  RequestFields& recomputed_tokens(std::int64_t count) { return measure("recomputed_tokens", count); }
  /// How long the request waited before it could enter the queue, and for what ("kv_transfer", "grammar", "rate").
  RequestFields& admission_ns(Duration time, Text reason = {}) {
    if (!reason.empty()) set("admission_reason", reason);
    return measure("admission_ns", time.count());
  }
  /// In how many chunks the prompt was processed.
  RequestFields& prompt_chunks(std::int64_t count) { return measure("prompt_chunks", count); }
  /// Tokens of the prompt that came from a cache, by where they were: in the device's memory, in the host's, and
  /// elsewhere. cached_tokens() is the sum of these.
  RequestFields& cached_by_tier(std::int64_t device, std::int64_t host, std::int64_t external = 0) {
    return measure("cached_device_tokens", device)
        .measure("cached_host_tokens", host)
        .measure("cached_external_tokens", external);
  }
  /// How often the first, second, … token of a draft was accepted.
  template <class T>
  RequestFields& accepted_by_position(const T* counts, std::size_t positions) {
    return set("accepted_by_position", counts, positions);
  }
};

/// Metadata of engine.queue: a request waits.
class QueueFields : public BuilderOf<QueueFields> {
 public:
  using BuilderOf::BuilderOf;
  /// What the request waits for ("capacity", "preempted", "adapter", "kv_transfer").
  QueueFields& reason(Text reason) { return set("reason", reason); }
};

/// Metadata of engine.prefill: a request's prompt is processed, or one chunk of it. The token counts are measurements
/// and not token usage, because the usage belongs to engine.request.
class PrefillFields : public BuilderOf<PrefillFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Tokens that were processed.
  PrefillFields& prefill_tokens(std::int64_t count) { return measure("prefill_tokens", count); }
  /// Tokens that came from a cache and were not processed again.
  PrefillFields& cached_tokens(std::int64_t count) { return measure("cached_tokens", count); }
  /// Tokens among the processed ones that had been processed before, as in RequestFields.
  PrefillFields& recomputed_tokens(std::int64_t count) { return measure("recomputed_tokens", count); }
  /// The chunk of the prompt that is processed, counted from 1, and how many there are; 0 if that is unknown.
  PrefillFields& chunk(std::int64_t number, std::int64_t of = 0) {
    if (of != 0) set("chunks", of);
    return set("chunk", number);
  }
};

/// Metadata of engine.decode: a request's tokens are generated.
class DecodeFields : public detail::SpeculationFields<DecodeFields> {
 public:
  using SpeculationFields::SpeculationFields;
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
  /// Cells (tokens) of the KV cache that the pass attended to. If the engine does not know them, those that were in
  /// use. They are more than the members' contexts if the cache keeps those of requests that have ended, as prefixes.
  StepFields& kv_used(std::int64_t cells) { return put(nopspan::detail::StepFact::kv_used, cells); }
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

/// Metadata of engine.load: the engine loads a model or an adapter.
class LoadFields : public BuilderOf<LoadFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The adapter (LoRA), if it is not the model that is loaded.
  LoadFields& adapter(Text name) { return set("adapter", name); }
  /// Bytes that were loaded.
  LoadFields& bytes(std::int64_t count) { return set("bytes", count); }
};

/// Metadata of engine.transfer: blocks of the KV cache are copied between memories or hosts.
class TransferFields : public BuilderOf<TransferFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Where the blocks come from and where they go ("device", "host", "disk", "prefill-1").
  TransferFields& between(Text from, Text to) { return set("from", from).set("to", to); }
  /// The direction as this engine sees it ("load", "store", "send", "receive").
  TransferFields& direction(Text direction) { return set("direction", direction); }
  /// Bytes that were copied.
  TransferFields& bytes(std::int64_t count) { return set("bytes", count); }
  /// Blocks that were copied.
  TransferFields& blocks(std::int64_t count) { return set("blocks", count); }
  /// Tokens in these blocks.
  TransferFields& tokens(std::int64_t count) { return set("tokens", count); }
};

/// Metadata of engine.device: a device works, usually for a step. Use complete(), because the times are known later:
/// `nopspan::complete(engine::device, step.context(), start, duration)`.
class DeviceFields : public BuilderOf<DeviceFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The device ("gpu0").
  DeviceFields& device(Text name) { return set("device", name); }
};

/// @{
/// The name of a span: `AsyncSpan span{engine::request, parent, [&](auto& m) { m.model(name); }};`
NOPSPAN_CONSTANT SpanName<RequestFields> request{"engine.request"};
NOPSPAN_CONSTANT SpanName<QueueFields> queue{"engine.queue"};
NOPSPAN_CONSTANT SpanName<PrefillFields> prefill{"engine.prefill"};
NOPSPAN_CONSTANT SpanName<DecodeFields> decode{"engine.decode"};
NOPSPAN_CONSTANT SpanName<StepFields> step{"engine.step"};
NOPSPAN_CONSTANT SpanName<LoadFields> load{"engine.load"};
NOPSPAN_CONSTANT SpanName<TransferFields> transfer{"engine.transfer"};
NOPSPAN_CONSTANT SpanName<DeviceFields> device{"engine.device"};
/// @}

/// Fields of preempted.
class PreemptedFields : public BuilderOf<PreemptedFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Why the request lost its place ("no_blocks", "priority").
  PreemptedFields& reason(Text reason) { return set("reason", reason); }
  /// What happens to its blocks: "swap", or "recompute" if they are lost.
  PreemptedFields& mode(Text mode) { return set("mode", mode); }
  /// Blocks that the request had.
  PreemptedFields& blocks(std::int64_t count) { return measure("blocks", count); }
  /// Tokens in these blocks.
  PreemptedFields& tokens(std::int64_t count) { return measure("tokens", count); }
};

/// Fields of swapped.
class SwappedFields : public BuilderOf<SwappedFields> {
 public:
  using BuilderOf::BuilderOf;
  /// "out" of the device's memory, or "in".
  SwappedFields& direction(Text direction) { return set("direction", direction); }
  /// Blocks that were moved.
  SwappedFields& blocks(std::int64_t count) { return measure("blocks", count); }
};

/// Fields of evicted.
class EvictedFields : public BuilderOf<EvictedFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The memory that the blocks were in ("device", "host").
  EvictedFields& tier(Text tier) { return set("tier", tier); }
  /// Blocks that were evicted.
  EvictedFields& blocks(std::int64_t count) { return measure("blocks", count); }
  /// Tokens in these blocks.
  EvictedFields& tokens(std::int64_t count) { return measure("tokens", count); }
  /// How long the blocks had been allocated.
  EvictedFields& lifetime_ns(Duration time) { return measure("lifetime_ns", time.count()); }
  /// How long ago they had been used.
  EvictedFields& idle_ns(Duration time) { return measure("idle_ns", time.count()); }
};

/// Fields of prefix_cache.
class PrefixCacheFields : public BuilderOf<PrefixCacheFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Tokens that the engine looked for, and how many of them it found.
  PrefixCacheFields& local(std::int64_t queried, std::int64_t hit) {
    return measure("queried_tokens", queried).measure("hit_tokens", hit);
  }
  /// The same in a cache that several engines share.
  PrefixCacheFields& external(std::int64_t queried, std::int64_t hit) {
    return measure("external_queried_tokens", queried).measure("external_hit_tokens", hit);
  }
  /// The memory that was searched, if each is reported by itself ("device", "host").
  PrefixCacheFields& tier(Text tier) { return set("tier", tier); }
};

/// Fields of rejected.
class RejectedFields : public BuilderOf<RejectedFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Why the request was not accepted ("queue_full", "too_long").
  RejectedFields& reason(Text reason) { return set("reason", reason); }
};

namespace detail {
template <class F>
using EngineEvent = nopspan::detail::NamedEvent<F, nopspan::detail::Point::event>;
}  // namespace detail

/// @{
/// An event at the time at which it happens. It belongs to the thread's current span, or to the span that is the first
/// argument: `engine::preempted(request.context(), [](auto& e) { e.reason("no_blocks").mode("recompute"); })`. Like a
/// setter it costs little if no tracer or handler is attached.
NOPSPAN_CONSTANT detail::EngineEvent<PreemptedFields> preempted{"engine.preempted"};
NOPSPAN_CONSTANT detail::EngineEvent<SwappedFields> swapped{"engine.swapped"};
NOPSPAN_CONSTANT detail::EngineEvent<EvictedFields> evicted{"engine.evicted"};
NOPSPAN_CONSTANT detail::EngineEvent<PrefixCacheFields> prefix_cache{"engine.prefix_cache"};
NOPSPAN_CONSTANT detail::EngineEvent<RejectedFields> rejected{"engine.rejected"};
/// @}

/// The gauges and counters of an engine. A negative value does not reach the probes, and is counted
/// (stats().values_clamped). Metadata other than engine and model are labels of all of them.
class StatsFields : public BuilderOf<StatsFields> {
 public:
  using BuilderOf::BuilderOf;
  /// Requests that are being served.
  StatsFields& running(std::int64_t requests) { return measure("running", requests); }
  /// Requests that wait.
  StatsFields& waiting(std::int64_t requests) { return measure("waiting", requests); }
  /// Requests that wait for this ("capacity", "adapter", "kv_transfer"). It is the gauge waiting with the label reason.
  StatsFields& waiting(Text reason, std::int64_t requests) { return labelled("waiting", "reason", reason, requests); }
  /// Requests that lost their place, and whose blocks are in another memory.
  StatsFields& swapped(std::int64_t requests) { return measure("swapped", requests); }
  /// Blocks of the KV cache in use.
  StatsFields& kv_cache_used(std::int64_t blocks) { return measure("kv_cache_used", blocks); }
  /// Blocks that the KV cache has: the maximum of kv_cache_used.
  StatsFields& kv_cache_total(std::int64_t blocks) { return measure("kv_cache_total", blocks); }
  /// Blocks in use in one memory ("host", "disk"). It is the gauge kv_cache_used with the label tier.
  StatsFields& kv_cache_used(Text tier, std::int64_t blocks) { return labelled("kv_cache_used", "tier", tier, blocks); }
  /// Blocks that one memory has.
  StatsFields& kv_cache_total(Text tier, std::int64_t blocks) {
    return labelled("kv_cache_total", "tier", tier, blocks);
  }
  /// A gauge of your own. Its name may have a label: "lora_slots{device=gpu0}". The value is an integer.
  template <class T>
  StatsFields& gauge(Text name, const T& value) {
    static_assert(nopspan::detail::is_reading<T>, "the value of a gauge or counter is an integer");
    return measure(name, static_cast<std::int64_t>(value));
  }
  /// A counter of your own; see nopspan::counter().
  template <class T>
  StatsFields& counter(Text name, const T& total) {
    static_assert(nopspan::detail::is_reading<T>, "the value of a gauge or counter is an integer");
    nopspan::detail::measure_counter(sink(), name, static_cast<std::int64_t>(total));
    return *this;
  }

 private:
  StatsFields& labelled(Text name, Text key, Text value, std::int64_t number) {
    nopspan::detail::measure_labelled(sink(), name, key, value, number);
    return *this;
  }
};

/// The event that handlers receive from stats().
NOPSPAN_CONSTANT Name stats_event{"engine.stats"};

/// Reports the gauges and counters of an engine. `fields(StatsFields&)` runs only if a tracer or handler is attached.
/// The probe `gauge` fires once for each that was set. Handlers receive one event engine.stats with all of them.
template <class M>
inline void stats(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<StatsFields>(nopspan::detail::Point::engine_stats, stats_event, ContextRef::current(),
                                        fields);
  }
}

/// The prefix of all names in this catalogue.
constexpr std::string_view event_prefix() noexcept { return "engine"; }
/// The names of all events: three for each span (start, stop, exception), the five others, and engine.stats.
NOPSPAN_API EventNames event_names() noexcept NOPSPAN_IN_SHELL(return {});

}  // namespace NOPSPAN_NAMESPACE::engine

#endif  // NOPSPAN_ENGINE_H
