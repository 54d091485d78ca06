// SPDX-License-Identifier: Apache-2.0
// The facts of an engine's spans and events: numbers that can be added up, and texts that can be counted.
#pragma once

#include "model/entry.h"
#include "model/otlp_wire.h"
#include "model/steps.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

struct EngineFact {
  std::string_view name;  // without its prefix: "blocks" is the attribute nopspan.blocks
  // The sum is the amount of all spans or events together. Times, indexes and statistics of one request are not
  // amounts.
  bool is_amount = false;
};
inline constexpr EngineFact kEngineFacts[] = {
    {"accepted_tokens", true},
    {"admission_ns"},
    {"batch_size", true},
    {"blocks", true},
    {"budget_tokens", true},
    {"bytes", true},
    {"cached_device_tokens", true},
    {"cached_external_tokens", true},
    {"cached_host_tokens", true},
    {"cached_tokens"},
    {"chunk"},
    {"chunks"},
    {"decode_tokens", true},
    {"device_ns"},
    {"drafted_tokens", true},
    {"drafts", true},
    {"external_hit_tokens", true},
    {"external_queried_tokens", true},
    {"gap_max_ns"},
    {"gap_p50_ns"},
    {"gap_p99_ns"},
    {"hit_tokens", true},
    {"host_ns"},
    {"idle_ns"},
    {"kv_used"},
    {"lifetime_ns"},
    {"max_tokens"},
    {"n"},
    {"preemptions", true},
    {"prefill_tokens", true},
    {"prompt_chunks", true},
    {"queried_tokens", true},
    {"recomputed_tokens", true},
    {"tokens", true},
    {"tokens_per_second"},
};
// Null if there is none of this name.
constexpr const EngineFact* find_engine_fact(std::string_view name) {
  const auto* const found = std::find_if(std::begin(kEngineFacts), std::end(kEngineFacts),
                                         [&](const EngineFact& fact) { return fact.name == name; });
  return found == std::end(kEngineFacts) ? nullptr : found;
}

// The decode time divided by the output tokens, without the first one, which the prefill makes. Nothing if it is
// unknown or impossible.
inline std::optional<std::uint64_t> time_per_output_token_ns(const Entry& entry) {
  if (!entry.has_engine_times || !entry.has_usage || entry.usage.output < 2) return {};
  if (entry.engine_times.decode_ns == 0) return {};
  return entry.engine_times.decode_ns / (entry.usage.output - 1);
}

// A time of an engine's request. Nothing if it is unknown: the record then has 0, and it is not an attribute.
inline std::optional<std::uint64_t> engine_time_ns(const Entry& entry, std::uint64_t EngineTimes::*time,
                                                   std::string_view key) {
  if (!entry.has_engine_times) return {};
  const std::uint64_t ns = entry.engine_times.*time;
  Attribute attribute;
  if (ns == 0 && !find_attribute(entry, key, attribute)) return {};
  return ns;
}

// The time until a request could enter the queue; 0: unknown.
inline std::uint64_t admission_ns_of(const Entry& request) {
  Attribute found;
  const bool is_number =
      find_attribute(request, "nopspan.admission_ns", found) && found.type == Attribute::Type::integer;
  return is_number && found.integer >= 0 ? static_cast<std::uint64_t>(found.integer) : 0;
}

inline bool has_engine_facts(const Entry& entry) {
  return (entry.kind == Kind::span || entry.kind == Kind::event) && entry.name.starts_with("engine.");
}

// Attributes with few texts. The finish reason is not one of them, because it is a list.
inline bool is_counted_text(std::string_view key) {
  constexpr std::string_view kKeys[] = {"nopspan.reason", "nopspan.mode", "nopspan.tier", "nopspan.direction",
                                        "nopspan.admission_reason"};
  return std::find(std::begin(kKeys), std::end(kKeys), key) != std::end(kKeys);
}

// Calls `on_number(key, value)` for each attribute that is an integer of at least 0, except times of day, and
// `on_text(key, text)` for each whose text is_counted_text().
template <class OnNumber, class OnText>
void for_each_engine_fact(const Entry& entry, const OnNumber& on_number, const OnText& on_text) {
  if (entry.step != nullptr) for_each_step_fact(*entry.step, on_number);
  for_each_key_value(
      entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes, [&](std::string_view key_value) {
        Attribute attribute;
        if (!read_attribute(key_value, attribute)) return;
        if (attribute.type == Attribute::Type::text && is_counted_text(attribute.key)) {
          on_text(attribute.key, attribute.text);
          return;
        }
        const bool is_time_of_day = attribute.key == "nopspan.arrival_ns" || attribute.key == "nopspan.opened_ns";
        if (attribute.type != Attribute::Type::integer || attribute.integer < 0 || is_time_of_day ||
            (entry.step != nullptr && is_step_fact(attribute.key))) {
          return;
        }
        on_number(attribute.key, static_cast<std::uint64_t>(attribute.integer));
      });
}

// The gaps between the tokens of a stream, which a StreamMeter writes as an attribute of the stream's span.

// Values in nanoseconds, and how many gaps each value stands for.
using Gaps = std::vector<std::pair<std::uint64_t, std::uint64_t>>;
inline constexpr std::size_t kMostGaps = 128;  // pairs in a list

// What counts once: each gap, or each token that a gap brought.
enum class GapsOf : std::uint8_t { chunks, tokens };

// Reads the gaps of a span. There are none if it has no StreamMeter. False if the list is not as a StreamMeter makes
// it: pairs with ascending values and counts between 1 and 2^32 - 1, at most kMostGaps of them.
bool read_gaps(const Entry& entry, GapsOf of, Gaps& gaps);

}  // namespace nopspan::collector
