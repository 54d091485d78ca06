// SPDX-License-Identifier: Apache-2.0
#include "base/counters.h"

namespace nopspan {
namespace detail {

Counters counters;
std::atomic<unsigned char> content_mode{0};

void reset_counters() noexcept {
  static_assert(sizeof(Counters) % sizeof(std::atomic<std::uint64_t>) == 0);
  auto* const each = reinterpret_cast<std::atomic<std::uint64_t>*>(&counters);
  for (std::size_t i = 0; i < sizeof(Counters) / sizeof(*each); ++i) each[i].store(0, std::memory_order_relaxed);
}

}  // namespace detail

Stats stats() noexcept {
  const auto get = [](const std::atomic<std::uint64_t>& counter) { return counter.load(std::memory_order_relaxed); };
  const detail::Counters& c = detail::counters;
  Stats s{};
  s.spans_dropped = get(c.spans_dropped);
  s.reentrant = get(c.reentrant);
  s.inherited = get(c.inherited);
  s.abandoned = get(c.abandoned);
  s.wrong_thread = get(c.wrong_thread);
  s.scopes_left = get(c.scopes_left);
  s.names_invalid = get(c.names_invalid);
  s.names_overflow = get(c.names_overflow);
  s.names_unknown = get(c.names_unknown);
  s.truncated = get(c.truncated);
  s.labels_overflow = get(c.labels_overflow);
  s.invalid_ids = get(c.invalid_ids);
  s.invalid_tracestate = get(c.invalid_tracestate);
  s.tracestate_evicted = get(c.tracestate_evicted);
  s.invalid_utf8 = get(c.invalid_utf8);
  s.values_clamped = get(c.values_clamped);
  s.fields_dropped = get(c.fields_dropped);
  s.attributes_dropped = get(c.attributes_dropped);
  s.links_dropped = get(c.links_dropped);
  s.metadata_failures = get(c.metadata_failures);
  s.handler_failures = get(c.handler_failures);
  s.recursion_dropped = get(c.recursion_dropped);
  s.facts_untracked = get(c.facts_untracked);
  s.trace_ids_differ = get(c.trace_ids_differ);
  s.thread_allocations = get(c.thread_allocations);
  s.baggage_dropped = get(c.baggage_dropped);
  s.members_dropped = get(c.members_dropped);
  s.contexts_dropped = get(c.contexts_dropped);
  s.spans_over_limit = get(c.spans_over_limit);
  s.warnings = get(c.warnings);
  return s;
}

void capture_content(ContentMode mode) noexcept {
  detail::content_mode.store(static_cast<unsigned char>(mode), std::memory_order_relaxed);
}

void capture_content(bool on) noexcept { capture_content(on ? ContentMode::spans_and_events : ContentMode::none); }

}  // namespace nopspan
