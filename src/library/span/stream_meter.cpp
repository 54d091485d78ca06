// SPDX-License-Identifier: Apache-2.0
// Measures a stream of tokens: the time to the first token, and the gaps between tokens.
#include <nopspan/stream.h>

#include "base/counters.h"
#include "gate/gate.h"
#include "memory/slabs.h"
#include "span/gap_histogram.h"
#include "span/span.h"
#include "thread/thread_state.h"

#include <algorithm>
#include <new>
#include <utility>

namespace nopspan::detail {

struct MeterState {
  std::uint64_t process_mark;
  std::uint64_t last_ns;  // the time of the last token; 0: none yet, unknown, or there are token_gaps
  std::uint64_t tokens;
  GapHistogram gaps;  // each call of token() counts once
  // Each token counts once: a gap that brought n tokens is n gaps of an n-th of its time. Null while it equals `gaps`.
  // It is behind this object in the same block.
  GapHistogram* token_gaps;
  std::uint64_t last_of_several_ns;  // the time of the last token if there are token_gaps; 0: unknown
};
constexpr std::size_t kMeterBytes = sizeof(MeterState) + sizeof(GapHistogram);
static_assert(kMeterBytes <= 4096 && alignof(MeterState) == alignof(GapHistogram));

namespace {

void add_tokens(SpanState* span, MeterState& meter, std::int64_t n) noexcept {
  constexpr auto kMost = static_cast<std::uint64_t>(INT64_MAX);
  meter.tokens =
      kMost - meter.tokens < static_cast<std::uint64_t>(n) ? kMost : meter.tokens + static_cast<std::uint64_t>(n);
  span->tokens_so_far = meter.tokens;
}

// A gap from which on a given time is compared with the clock.
constexpr std::uint64_t kLongGapNs = 1'000'000'000;

// True if a token can have arrived at this time: after the begin of the span, and not in the future. `past_ns` is a
// time in the past.
bool can_be(const SpanState& span, std::uint64_t at_ns, std::uint64_t past_ns) noexcept {
  constexpr std::uint64_t kInaccuracy = 1'000'000;  // the clock was perhaps read on another thread
  const bool is_future = at_ns > past_ns && at_ns > thread_ns() + kInaccuracy;
  if (!is_future && at_ns + kInaccuracy >= span.start_ns) return true;
  count(counters.values_clamped);
  return false;
}

// Handles the other cases: the first token, several tokens at a time and what follows them, a count that is 0 or
// negative, a time that was given and is far from the last one, no state, and a stream from before fork(). An
// impossible time is left out (and counted): the token counts, but no gap begins or ends with it.
__attribute__((noinline)) void note_unusual(SpanState* span, MeterState* meter, std::int64_t n,
                                            std::uint64_t at_ns) noexcept {
  if (mark_of(*span) != process_mark() || n == 0) return;
  if (n < 0) {
    count(counters.values_clamped);
    return;
  }
  if (meter == nullptr) {
    if (at_ns == 0) {
      span_first_token(span, static_cast<std::uint64_t>(n));
    } else if ((span->flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0 && can_be(*span, at_ns, 0)) {
      span_first_token_at(span, at_ns, static_cast<std::uint64_t>(n));
    }
    return;
  }
  const std::uint64_t now = at_ns != 0 ? at_ns : thread_ns();
  std::uint64_t& last_known = meter->token_gaps == nullptr ? meter->last_ns : meter->last_of_several_ns;
  const bool is_first = meter->tokens == 0;
  add_tokens(span, *meter, n);
  if (at_ns != 0 && (last_known == 0 || now - last_known > kLongGapNs) && !can_be(*span, now, last_known)) {
    last_known = 0;
    return;
  }
  if (last_known == 0) {  // no gap is known
    last_known = now;
    if (is_first) span_first_token_at(span, now, static_cast<std::uint64_t>(n));
    return;
  }
  if (n == 1 && meter->token_gaps == nullptr) {
    meter->gaps.add(now > last_known ? now - last_known : 0);
    last_known = std::max(last_known, now);
    return;
  }
  if (meter->token_gaps == nullptr) {
    meter->token_gaps = new (meter + 1) GapHistogram(meter->gaps);
    meter->last_of_several_ns = std::exchange(meter->last_ns, 0);
  }
  const std::uint64_t last = meter->last_of_several_ns;
  const std::uint64_t gap = now > last ? now - last : 0;
  meter->gaps.add(gap);
  meter->token_gaps->add(gap / static_cast<std::uint64_t>(n), static_cast<std::uint64_t>(n));
  meter->last_of_several_ns = last + gap;
}

// The usual case. It has its own function, because meter_token() is declared cold (see span.h).
__attribute__((hot, noinline)) void note_token(SpanState* span, MeterState* meter, std::int64_t n,
                                               std::uint64_t at_ns) noexcept {
  if (meter == nullptr || meter->last_ns == 0 || n != 1 || meter->process_mark != process_mark()) {
    note_unusual(span, meter, n, at_ns);
    return;
  }
  const std::uint64_t now = at_ns != 0 ? at_ns : thread_ns();
  const std::uint64_t last = meter->last_ns;
  std::uint64_t gap = now - last;
  if (__builtin_expect(gap > kLongGapNs, 0)) {  // or the time is before the last one
    if (at_ns != 0) {
      note_unusual(span, meter, n, at_ns);
      return;
    }
    gap = now > last ? gap : 0;
  }
  meter->gaps.add(gap);
  meter->last_ns = last + gap;
  add_tokens(span, *meter, n);
}

// Adds a list of numbers that only tracers see: value, count, value, count, …
void list_gaps(SpanState& span, std::string_view key, const GapHistogram& gaps) noexcept {
  FieldBuffer& fields = span.fields;
  if (fields.find(key, false) != nullptr || fields.find(key, true) != nullptr) return;
  const std::size_t from = fields.size();
  bool complete = fields.open_items(key, Value::Type::list, FieldEntry::kOwn | FieldEntry::kProbesOnly, 0);
  const auto add = [&](std::uint64_t number) {
    Item item;
    item.type = Item::Type::natural;
    item.word = number;
    complete = complete && fields.add_item({}, item, 1);
  };
  gaps.for_each([&](std::uint64_t value, std::uint64_t count) {
    add(value);
    add(count);
  });
  if (complete) fields.close_items(from);
  count_unless(fields.put_items(from, complete));
}

void measure(SpanState& span, std::string_view key, std::uint64_t value) noexcept {
  count_unless(span.fields.put_derived(key, Value::Type::integer, value, FieldEntry::kMeasurement));
}

}  // namespace

MeterState* meter_begin(SpanState* span) noexcept {
  const InsideLibrary inside;
  if (!takes_fields(*span, counters.fields_dropped)) return nullptr;
  unsigned char* const memory = take_block(kMeterBytes).bytes;
  if (memory == nullptr) {
    count(counters.fields_dropped);
    return nullptr;
  }
  auto* const meter = new (memory) MeterState{};
  meter->process_mark = mark_of(*span);
  return meter;
}

void meter_token(SpanState* span, MeterState* meter, std::int64_t n) noexcept { note_token(span, meter, n, 0); }

void meter_token_at(SpanState* span, MeterState* meter, std::int64_t n, std::uint64_t at_ns) noexcept {
  note_token(span, meter, n, at_ns);
}

void meter_opened(SpanState* span) noexcept {
  if (mark_of(*span) != process_mark()) return;
  const std::uint64_t now = thread_ns();
  measure_uint(span, "opened_ns", now > span->start_ns ? now - span->start_ns : 0);
}

void meter_end(SpanState* span, MeterState* meter) noexcept {
  const InsideLibrary inside;
  if (span != nullptr && mark_of(*span) == process_mark()) {
    measure(*span, "stream_tokens", meter->tokens);
    if ((span->flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0) {
      measure(*span, "time_to_first_token_ns", span->first_token_ns);
    }
    if (!meter->gaps.empty()) {
      measure(*span, "gap_p50_ns", meter->gaps.quantile(50));
      measure(*span, "gap_p99_ns", meter->gaps.quantile(99));
      measure(*span, "gap_max_ns", meter->gaps.longest());
      if (batch_up()) {
        list_gaps(*span, "gaps_ns", meter->gaps);
        if (meter->token_gaps != nullptr) list_gaps(*span, "token_gaps_ns", *meter->token_gaps);
      }
    }
  }
  give_back_block(reinterpret_cast<unsigned char*>(meter));
}

}  // namespace nopspan::detail
