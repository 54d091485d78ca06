// SPDX-License-Identifier: Apache-2.0
// The server's side: what an inference engine knows of a request.
//
//   slot.span = nopspan::AsyncSpan{nopspan::engine::request, nopspan::Context::from_traceparent(header),
//                                  [&](auto& m) { m.model(name).arrival_ns(arrival); }};
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

namespace nopspan::engine {

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
    return self();
  }

 protected:
  template <class T>
  Self& put(Text key, const T& value) {
    set(key, value);
    return self();
  }
  Self& number(Text key, std::int64_t value) {
    measure(key, value);
    return self();
  }

 private:
  Self& self() { return static_cast<Self&>(*this); }
};
}  // namespace detail

// Metadata of engine.request, arrival to last byte. Its end fires the `engine_request` probe with these times.
//
// At its end nopspan adds, where they are known and the application did not set them: the measurements ttft_ns
// (arrival, or else the span's start, to the first token), time_per_output_token_ns (decode_ns / (output_tokens - 1),
// rounded down; absent for fewer than two tokens) and tokens_per_second (the inverse, a double; absent for a decode_ns
// of 0); and the metadata `cancelled`, a bool.
//
// What cannot be is taken for absent there and in the probes, and counted (stats().values_clamped); handlers see it as
// it was set: a negative time or count, a time that is not a number, a first token before the arrival. Token counts
// over 2^53 count as 2^53 in the rates.
class RequestFields : public detail::Builder<RequestFields> {
 public:
  using Builder::Builder;
  RequestFields& input_tokens(std::int64_t count) { return put("input_tokens", count); }
  RequestFields& output_tokens(std::int64_t count) { return put("output_tokens", count); }
  RequestFields& cached_tokens(std::int64_t count) { return put("cached_tokens", count); }
  RequestFields& reasoning_tokens(std::int64_t count) { return put("reasoning_tokens", count); }
  RequestFields& finish_reason(Text reason) { return put("finish_reason", reason); }

  // When the request came, CLOCK_MONOTONIC in ns; 0: not known.
  RequestFields& arrival_ns(std::int64_t time) { return put("arrival_ns", time); }
  // How long it waited, read its prompt and generated, ns.
  RequestFields& queue_ns(std::int64_t time) { return number("queue_ns", time); }
  RequestFields& prefill_ns(std::int64_t time) { return number("prefill_ns", time); }
  RequestFields& decode_ns(std::int64_t time) { return number("decode_ns", time); }
  // Of its prompt what was read so far, without what was in a cache; all of it unless the request ended early.
  RequestFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  RequestFields& preemptions(std::int64_t count) { return number("preemptions", count); }
};

// Metadata of engine.queue: a request waits.
class QueueFields : public detail::Builder<QueueFields> {
 public:
  using Builder::Builder;
};

// Metadata of engine.prefill: a request's prompt is read. Its tokens are measurements: the request has the usage.
class PrefillFields : public detail::Builder<PrefillFields> {
 public:
  using Builder::Builder;
  PrefillFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  PrefillFields& cached_tokens(std::int64_t count) { return number("cached_tokens", count); }
};

// Metadata of engine.decode: a request's tokens are generated.
class DecodeFields : public detail::Builder<DecodeFields> {
 public:
  using Builder::Builder;
  DecodeFields& decode_tokens(std::int64_t count) { return number("decode_tokens", count); }
};

// Metadata of engine.step: one forward pass for many requests, to which it has links.
class StepFields : public detail::Builder<StepFields> {
 public:
  using Builder::Builder;
  StepFields& batch_size(std::int64_t count) { return number("batch_size", count); }
  StepFields& prefill_tokens(std::int64_t count) { return number("prefill_tokens", count); }
  StepFields& decode_tokens(std::int64_t count) { return number("decode_tokens", count); }
  StepFields& link(const Context& request) {
    Fields::link(request);
    return *this;
  }
};

NOPSPAN_CONSTANT SpanName<RequestFields> request{"engine.request"};
NOPSPAN_CONSTANT SpanName<QueueFields> queue{"engine.queue"};
NOPSPAN_CONSTANT SpanName<PrefillFields> prefill{"engine.prefill"};
NOPSPAN_CONSTANT SpanName<DecodeFields> decode{"engine.decode"};
NOPSPAN_CONSTANT SpanName<StepFields> step{"engine.step"};

// The gauges of an engine. A negative one does not go to the probes, and is counted (stats().values_clamped).
class StatsFields : public detail::Builder<StatsFields> {
 public:
  using Builder::Builder;
  StatsFields& running(std::int64_t requests) { return number("running", requests); }
  StatsFields& waiting(std::int64_t requests) { return number("waiting", requests); }
  StatsFields& kv_cache_used(std::int64_t blocks) { return number("kv_cache_used", blocks); }
  StatsFields& kv_cache_total(std::int64_t blocks) { return number("kv_cache_total", blocks); }
};

NOPSPAN_CONSTANT Name stats_event{"engine.stats"};

// A reading of the engine's gauges: `fields(StatsFields&)` is called only if somebody listens. To handlers one event
// engine.stats with what was set; one `gauge` probe for each gauge that was, with kv_cache_total as the maximum of
// kv_cache_used.
template <class M>
inline void stats(M&& fields) {
  if (nopspan::detail::points_wanted()) {
    nopspan::detail::point<StatsFields>(nopspan::detail::Point::engine_stats, stats_event, nullptr, fields);
  }
}

// The prefix of every name here.
constexpr std::string_view event_prefix() noexcept { return "engine"; }
// The names of all events: three of each span, and engine.stats, which gauges emit.
NOPSPAN_API EventNames event_names() noexcept;

}  // namespace nopspan::engine

#endif  // NOPSPAN_ENGINE_H
