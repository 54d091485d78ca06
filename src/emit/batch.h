// SPDX-License-Identifier: Apache-2.0
// The batch probe: a thread writes entries to a buffer of its own, and passes the site once for many. The form of an
// entry and of a thread's header is in include/nopspan/probes.h.
//
// A batch is flushed when no span is open on the thread and 1 ms has passed since the last flush, if an outermost span
// has ended, or 100 ms if none has. It is also flushed when the buffer is full and when the thread ends. If a thread
// holds entries for longer, because nothing more happens on it, a tracer reads them from the buffer.
#pragma once

#include "emit/once_probes.h"
#include "gate/gate.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kBatchBytes = 32U << 10U;
// Of all threads together; what a thread without a buffer would write is counted as discarded.
inline constexpr std::size_t kMaxBatchesBytes = 256U << 20U;

// All of these inside a LibraryGuard.

// Passes the site once with the thread's header alone, so that a tracer knows where it is.
void announce_thread(ThreadState* thread) noexcept;
inline void announce_once(ThreadState* thread) noexcept {
  if (__builtin_expect(batch_up() && !thread->batch.announced, 0)) announce_thread(thread);
}

// An ended span.
void batch_span(ThreadState* thread, const SpanState& span, const OnceProbes& fired) noexcept;

// An event (NOPSPAN_ENTRY_EVENT and others) at `time_ns`; `value` and `number` as the kind has them.
struct PointEntry {
  unsigned char kind;
  std::uint64_t time_ns;
  std::uint64_t value;
  std::uint64_t number;
  const char* name;    // of a gauge; null: the event's
  const char* engine;  // of a gauge; null: the event's
};
void batch_point(ThreadState* thread, const SpanState& event, const PointEntry& point) noexcept;

// The gate is down: the thread's entries are discarded and counted, and its buffer is unmapped.
void discard_batch(ThreadState* thread) noexcept;
inline void discard_batch_if_down(ThreadState* thread) noexcept {
  if (__builtin_expect(thread->batch.announced && !batch_up(), 0)) discard_batch(thread);
}

// At the end of a thread: its entries are flushed.
void end_batches(ThreadState* thread) noexcept;
// The thread state has a new thread or a new process. The entries in the buffer do not belong to it.
void begin_batches(ThreadState* thread) noexcept;

}  // namespace nopspan::detail
