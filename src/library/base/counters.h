// SPDX-License-Identifier: Apache-2.0
// The counters that nopspan::stats() reads.
#pragma once

#include <nopspan/stats.h>

#include <atomic>
#include <cstdint>

namespace nopspan::detail {

// What stats() returns. All accesses are atomic. Tracers read them by the order of their fields:
// nopspan_gate_page::stats.
extern Stats counters;

inline void count(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
  __atomic_fetch_add(&counter, by, __ATOMIC_RELAXED);
}

// Counts a span or an event that is not emitted. `at_limit`: because a limit was reached, and not for lack of memory.
inline void count_dropped(bool at_limit) noexcept {
  count(counters.spans_dropped);
  if (at_limit) count(counters.spans_over_limit);
}

// A child process begins with no counts, because a collector adds up those of all processes.
void reset_counters() noexcept;

// Counts a field as dropped unless it was written.
inline void count_unless(bool written) noexcept {
  if (!written) count(counters.fields_dropped);
}

extern std::atomic<unsigned char> content_mode;  // what capture_content() set: bits of ContentMode

// True if the content of a span, or of an event, leaves the process.
inline bool captures_content(bool is_span) noexcept {
  const auto bit = static_cast<unsigned>(is_span ? ContentMode::spans : ContentMode::events);
  return (content_mode.load(std::memory_order_relaxed) & bit) != 0;
}

}  // namespace nopspan::detail
