// SPDX-License-Identifier: Apache-2.0
// Measures a stream of tokens: the time to the first token, and the gaps between tokens.
#include <nopspan/stream_meter.h>

#include "base/counters.h"
#include "memory/blocks.h"
#include "span/gap_histogram.h"
#include "span/span.h"
#include "thread/thread_state.h"

#include <new>

namespace nopspan::detail {

struct MeterState {
  std::uint64_t process_mark;
  std::uint64_t last_ns;  // the time of the last token; 0: none yet
  std::uint64_t tokens;
  GapHistogram gaps;
};

namespace {

void add_tokens(SpanState* span, MeterState& meter, std::int64_t n) noexcept {
  constexpr auto kMost = static_cast<std::uint64_t>(INT64_MAX);
  meter.tokens =
      kMost - meter.tokens < static_cast<std::uint64_t>(n) ? kMost : meter.tokens + static_cast<std::uint64_t>(n);
  span->tokens_so_far = meter.tokens;
}

// Handles the rare cases: the first token, a count that is 0 or negative, no state, and a stream from before fork().
__attribute__((noinline)) void note_first(SpanState* span, MeterState* meter, std::int64_t n,
                                          std::uint64_t at_ns) noexcept {
  if (span->process_mark != process_mark() || n == 0) return;
  if (n < 0) {
    count(counters.values_clamped);
    return;
  }
  if (meter == nullptr) {
    if (at_ns == 0) {
      span_first_token(span, static_cast<std::uint64_t>(n));
    } else {
      span_first_token_at(span, at_ns, static_cast<std::uint64_t>(n));
    }
    return;
  }
  meter->last_ns = at_ns != 0 ? at_ns : thread_ns();
  add_tokens(span, *meter, n);
  span_first_token_at(span, meter->last_ns, static_cast<std::uint64_t>(n));
}

// The usual case. It has its own function, because meter_token() is declared cold (see span.h).
__attribute__((hot, noinline)) void note_token(SpanState* span, MeterState* meter, std::int64_t n,
                                               std::uint64_t at_ns) noexcept {
  if (meter == nullptr || meter->last_ns == 0 || n <= 0 || meter->process_mark != process_mark()) {
    note_first(span, meter, n, at_ns);
    return;
  }
  const std::uint64_t now = at_ns != 0 ? at_ns : thread_ns();
  const std::uint64_t last = meter->last_ns;
  meter->gaps.add(now > last ? now - last : 0);
  if (now > last) meter->last_ns = now;
  add_tokens(span, *meter, n);
}

void measure(SpanState& span, std::string_view key, std::uint64_t value) noexcept {
  count_unless(span.fields.put_derived(key, Value::Type::integer, value, FieldEntry::kMeasurement));
}

}  // namespace

MeterState* meter_begin(SpanState* span) noexcept {
  const InsideLibrary inside;
  if (!span->takes_fields) return nullptr;
  unsigned char* const memory = take_block(sizeof(MeterState)).bytes;
  if (memory == nullptr) {
    count(counters.fields_dropped);
    return nullptr;
  }
  auto* const meter = new (memory) MeterState{};
  meter->process_mark = span->process_mark;
  return meter;
}

void meter_token(SpanState* span, MeterState* meter, std::int64_t n) noexcept { note_token(span, meter, n, 0); }

void meter_token_at(SpanState* span, MeterState* meter, std::int64_t n, std::uint64_t at_ns) noexcept {
  note_token(span, meter, n, at_ns);
}

void meter_opened(SpanState* span) noexcept {
  if (span->process_mark != process_mark()) return;
  const std::uint64_t now = thread_ns();
  measure_uint(span, "opened_ns", now > span->start_ns ? now - span->start_ns : 0);
}

void meter_end(SpanState* span, MeterState* meter) noexcept {
  const InsideLibrary inside;
  if (span != nullptr && span->process_mark == process_mark()) {
    measure(*span, "stream_tokens", meter->tokens);
    if ((span->flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0) {
      measure(*span, "time_to_first_token_ns", span->first_token_ns);
    }
    if (!meter->gaps.empty()) {
      measure(*span, "gap_p50_ns", meter->gaps.quantile(50));
      measure(*span, "gap_p99_ns", meter->gaps.quantile(99));
      measure(*span, "gap_max_ns", meter->gaps.longest());
    }
  }
  give_back_block(reinterpret_cast<unsigned char*>(meter));
}

}  // namespace nopspan::detail
