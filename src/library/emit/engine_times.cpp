// SPDX-License-Identifier: Apache-2.0
#include "base/counters.h"
#include "emit/probe.h"

#include <string_view>

namespace nopspan::detail {
namespace {

// The largest count up to which a double is exact.
constexpr std::uint64_t kMostTokens = std::uint64_t{1} << 53U;

void add(SpanState& span, std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept {
  count_unless(span.fields.put_derived(key, type, word, flags));
}

void measure(SpanState& span, std::string_view key, std::uint64_t value) noexcept {
  add(span, key, Value::Type::integer, value, FieldEntry::kMeasurement);
}

void measure_real(SpanState& span, std::string_view key, double value) noexcept {
  add(span, key, Value::Type::real, real_word(value), FieldEntry::kMeasurement);
}

std::uint64_t arrival(const SpanState& span) noexcept {
  return span.engine.arrival_ns != 0 ? span.engine.arrival_ns : span.start_ns;
}

void add_time_to_first_token(SpanState& span) noexcept {
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0) return;
  if (span.start_ns + span.first_token_ns < arrival(span)) {
    count(counters.values_clamped);
    return;
  }
  measure(span, "ttft_ns", time_to_first_token(span));
}

// Repeats the times that were given at the start, because handlers have seen them only with the start event.
void add_times(SpanState& span) noexcept {
  const EngineTimes& times = span.engine;
  const auto add_known = [&](std::string_view key, const std::uint64_t& field) {
    if (is_known(times, field)) measure(span, key, field);
  };
  add_known("queue_ns", times.queue_ns);
  add_known("prefill_ns", times.prefill_ns);
  add_known("decode_ns", times.decode_ns);
}

// The prefill makes the first token. Decoding makes the others, so they are one fewer than output_tokens.
void add_decode_rate(SpanState& span) noexcept {
  std::uint64_t output = span.output_tokens;
  if (!is_known(span.engine, span.engine.decode_ns) || output < 2) return;
  if (output > kMostTokens) {
    count(counters.values_clamped);
    output = kMostTokens;
  }
  const std::uint64_t decoded = output - 1;
  const std::uint64_t time = span.engine.decode_ns;
  measure(span, "time_per_output_token_ns", time / decoded);
  if (time > 0) measure_real(span, "tokens_per_second", static_cast<double>(decoded) * 1e9 / static_cast<double>(time));
}

}  // namespace

std::uint64_t time_to_first_token(const SpanState& span) noexcept {
  if ((span.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) == 0) return 0;
  const std::uint64_t first = span.start_ns + span.first_token_ns;
  return first > arrival(span) ? first - arrival(span) : 0;
}

void add_engine_times(SpanState& span) noexcept {
  if (span.catalogue == nullptr || span.catalogue->name != "engine.request") return;
  add_times(span);
  add_time_to_first_token(span);
  add_decode_rate(span);
  add(span, "cancelled", Value::Type::boolean, span.status == NOPSPAN_STATUS_CANCELLED ? 1 : 0, 0);
}

}  // namespace nopspan::detail
