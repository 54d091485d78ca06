// SPDX-License-Identifier: Apache-2.0
// Samples of requests by OpenTelemetry's rule for consistent probability sampling, so that hosts, SDKs and Collectors
// keep the same traces. Each trace has 56 random bits. It is in the sample if they are not below a threshold, which is
// (1 - probability) * 2^56. The threshold travels with each span, in the item "ot" of its tracestate, as "th".
// https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Bits of Entry::flags that no library sets.
// The entry is what a sample left of many: `th` in its tracestate is the threshold, and its absence means that the
// probability is not known.
inline constexpr std::uint32_t kSampledEntry = 1U << 31U;
// The filter that chose the span's request did not see the span's parent, which is in another process.
inline constexpr std::uint32_t kPartialEntry = 1U << 30U;

// The threshold of 1 in N: rounded to four digits after the leading f, as the specification recommends. 0 for all.
std::uint64_t rejection_threshold(std::uint32_t one_in);
// The random bits of a request: the last 7 bytes of its trace id.
std::uint64_t randomness_of(const TraceId& id);
// The same, unless an `rv` in the tracestate replaces them, or the trace id is a hash (nopspan_hashed_randomness()).
std::uint64_t randomness_of(const Entry& entry);

// Whether a sample of one in N includes the request. Entries without a request are in every sample.
bool is_sampled(const Entry& entry, std::uint32_t one_in);
// Whether it may include a request of which only the trace id is known, which may be a hash.
bool may_be_sampled(const TraceId& id, std::uint32_t one_in);
// Whether the request's caller, if it is in another process, has sampled the trace: the sampled flag of W3C.
bool is_sampled_by_caller(const Entry& entry);

// What samplers wrote into a tracestate. Malformed values are ignored.
struct OtelState {
  std::optional<std::uint64_t> threshold, randomness;
};
OtelState otel_state_of(std::string_view tracestate);
// The tracestate with these values instead of its own. Other values and items are kept. Returns the tracestate
// unchanged if the item would become too long.
std::string with_otel_state(std::string_view tracestate, const OtelState& state);

// Writes the threshold that a sample applied into the tracestate of the spans in it.
class SampleMark {
 public:
  // `only_sampled`: the entries are those that is_sampled_by_caller() accepts.
  SampleMark(std::uint32_t one_in, bool only_sampled)
      : threshold_(rejection_threshold(one_in)), only_sampled_(only_sampled) {}
  // The threshold is the largest of those that were applied to the span. Until the next call, returns the marked span,
  // or the entry itself if there is nothing to mark.
  const Entry& marked(const Entry& entry);

 private:
  const std::uint64_t threshold_;
  const bool only_sampled_;
  Entry copy_;
  std::string tracestate_;
};

}  // namespace nopspan::collector
