// SPDX-License-Identifier: Apache-2.0
/// @file
/// The pace of a stream of tokens: the number of tokens, the time to the first one, and the gaps between them.
///
/// @code
/// nopspan::StreamMeter meter{nopspan::AsyncSpan{"engine.request", nopspan::Context::current()}};
/// for (int i = 0; i < 3; ++i) meter.token();
/// meter.end();
///
/// // As a callback of a C library, with the meter as user data: token() does not throw.
/// void (*on_token)(const char*, void*) = [](const char*, void* user) {
///   static_cast<nopspan::StreamMeter*>(user)->token();
/// };
/// @endcode
///
/// Thread safety: a meter belongs to one thread at a time, and may move between threads.
#ifndef NOPSPAN_STREAM_METER_H
#define NOPSPAN_STREAM_METER_H

#include <nopspan/detail/config.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstdint>
#include <utility>

namespace nopspan {

namespace detail {
struct MeterState;
NOPSPAN_API NOPSPAN_COLD MeterState* meter_begin(SpanState*) noexcept;
NOPSPAN_API NOPSPAN_COLD void meter_token(SpanState*, MeterState*, std::int64_t n) noexcept;
NOPSPAN_API NOPSPAN_COLD void meter_token_at(SpanState*, MeterState*, std::int64_t n, std::uint64_t at_ns) noexcept;
NOPSPAN_API NOPSPAN_COLD void meter_opened(SpanState*) noexcept;
NOPSPAN_API NOPSPAN_COLD void meter_end(SpanState*, MeterState*) noexcept;  // adds the measurements
}  // namespace detail

/// Measures the stream of tokens of one span. It takes an AsyncSpan, owns it, and ends it. At the end it adds these
/// measurements, except those that the application set itself:
///
/// | measurement | value |
/// | --- | --- |
/// | stream_tokens | the number of tokens |
/// | time_to_first_token_ns | from the start of the span to the first token (ttft_ns of engine.h is from the arrival) |
/// | gap_p50_ns, gap_p99_ns, gap_max_ns | the times between calls of token(), if there were at least two calls |
///
/// The two quantiles are within 3.1 % for gaps between 1 us and 275 s. For shorter gaps they are within 32 ns. A longer
/// gap counts as 275 s. The maximum is exact.
///
/// While a collector is attached (`nopspan hist`, `record`, `trace`, `top`), the span also has its histogram of gaps as
/// the attribute nopspan.gaps_ns. If a call of token() brought several tokens, it has nopspan.token_gaps_ns too.
///
/// - A meter of a recorded span takes 4 KiB of memory, which is reused. If there is no memory, the span has no
///   measurements, and this is counted (stats().fields_dropped).
/// - A call of token() on a recorded span costs one clock read, unless it is given the time, and a few ns. On any other
/// span it costs one test. A stream that has brought several tokens at a time has two histograms to count in.
/// - The first token fires the probe `first_token`. Later tokens fire no probe.
/// - In the child of fork(), a meter of the parent does nothing.
class StreamMeter {
 public:
  /// A meter without a span, on which every member does nothing.
  constexpr StreamMeter() noexcept = default;
  /// Takes the span, and begins to measure.
  [[nodiscard]] explicit StreamMeter(AsyncSpan&& span) noexcept : span_(std::move(span)) {
    if (__builtin_expect(span_.state_ != nullptr, 0)) meter_ = detail::meter_begin(span_.state_);
  }
  /// Takes the span and its measurements from `other`, which has no span afterwards.
  StreamMeter(StreamMeter&& other) noexcept
      : span_(std::move(other.span_)), meter_(std::exchange(other.meter_, nullptr)) {}
  /// Abandons the span that this meter holds, and takes the span and its measurements from `other`.
  StreamMeter& operator=(StreamMeter&& other) noexcept {
    if (this != &other) {
      measure();
      span_ = std::move(other.span_);
      meter_ = std::exchange(other.meter_, nullptr);
    }
    return *this;
  }
  /// If the span has not ended, its measurements so far are set, and it ends as an AsyncSpan that is destroyed.
  ~StreamMeter() { measure(); }

  /// Whether the span is recorded, and has not ended.
  explicit operator bool() const noexcept { return static_cast<bool>(span_); }

  /// Reports that `n` tokens arrived now. 0 does nothing. A negative number does nothing, and is counted
  /// (stats().values_clamped).
  void token(std::int64_t n = 1) noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_token(span_.state_, meter_, n);
  }
  /// Reports that `n` tokens arrived at that time; 0 means now. A step of an engine makes one token for each of its
  /// requests: with one reading of the clock (now_ns()) for all of them, a token costs half as much. A time before that
  /// of the last token counts as the same time.
  void token(std::int64_t n, Time at) noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_token_at(span_.state_, meter_, n, at.ns());
  }

  /// Reports that the source of the stream is open now. Sets the measurement opened_ns: the time since the start of the
  /// span.
  void opened() noexcept {
    if (__builtin_expect(span_.state_ != nullptr, 0)) detail::meter_opened(span_.state_);
  }

  /// Ends the span; see AsyncSpan::end(). The first call of end(), fail(), cancel() or caught() counts.
  void end() noexcept {
    measure();
    span_.end();
  }
  /// Ends the span as failed; see AsyncSpan::fail().
  void fail(Text type, Text message = {}) noexcept {
    measure();
    span_.fail(type, message);
  }
  /// Ends the span as cancelled; see AsyncSpan::cancel().
  void cancel(Text reason = {}) noexcept {
    measure();
    span_.cancel(reason);
  }
  /// Ends the span with the exception that is being handled; see AsyncSpan::caught().
  void caught() noexcept {
    measure();
    span_.caught();
  }

  /// The span, for its fields, events and context. Do not end it through this reference, because the measurements would
  /// be missing.
  [[nodiscard]] AsyncSpan& span() noexcept { return span_; }
  /// @overload
  [[nodiscard]] const AsyncSpan& span() const noexcept { return span_; }

 private:
  void measure() noexcept {
    if (__builtin_expect(meter_ != nullptr, 0)) detail::meter_end(span_.state_, std::exchange(meter_, nullptr));
  }

  AsyncSpan span_;
  detail::MeterState* meter_ = nullptr;
};
static_assert(sizeof(StreamMeter) == 16);

}  // namespace nopspan

#endif  // NOPSPAN_STREAM_METER_H
