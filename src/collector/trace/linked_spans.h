// SPDX-License-Identifier: Apache-2.0
// Linked spans: spans of work that was done for several requests. They are an engine's steps (steps.h), which have
// members, or other spans with links (span_links.h). They belong to no request of their own. Each trace that they link
// to adds them up, by their name and by the span that they link to.
#pragma once

#include "base/log_linear.h"
#include "base/saturating.h"
#include "model/entry.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

struct LinkedSpan {
  TraceId trace_id;
  std::uint64_t span_id = 0, start_unix_ns = 0, duration_ns = 0;
  std::uint32_t requests = 0;  // number of requests that it links to
  std::uint8_t status = kOk;
  std::uint64_t number = 0, instance = 0;  // of a step and its engine

  [[nodiscard]] bool failed() const { return status == kError || status == kException; }
  [[nodiscard]] std::uint64_t end_unix_ns() const { return saturating_sum(start_unix_ns, duration_ns); }
};

// The tokens that steps computed for one of their members.
struct MemberTokens {
  std::uint64_t prefill = 0, decode = 0, drafted = 0, accepted = 0;

  void add(const nopspan_member& member) {
    prefill += member.prefill_tokens;
    decode += member.decode_tokens;
    drafted += member.drafted_tokens;
    accepted += member.accepted_tokens;
  }
  [[nodiscard]] bool empty() const { return (prefill | decode | drafted | accepted) == 0; }
};

struct LinkedSpans {
  std::uint64_t linked_id = 0;          // the span of the trace that they link to
  std::uint32_t name = 0, process = 0;  // as in PackedEntry
  std::uint64_t failed = 0;
  std::uint64_t start_unix_ns = UINT64_MAX, end_unix_ns = 0;
  LogLinear times;
  // Of steps and of spans inside them, which have members instead of links:
  bool is_of_steps = false;   // they are the steps themselves
  std::uint64_t members = 0;  // how many times this request was a member
  std::uint64_t last_id = 0;  // of the span that was added last
  MemberTokens tokens;
  std::vector<LinkedSpan> each;  // the first few, if they are kept one by one

  // Returns about how many bytes of memory were added.
  std::size_t add(const LinkedSpan& entry, std::size_t most_kept);
};

}  // namespace nopspan::collector
