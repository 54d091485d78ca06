// SPDX-License-Identifier: Apache-2.0
// The batch probe. A thread writes entries into its own buffer and calls the site once for many of them, because a hit
// costs the program most of a microsecond. include/nopspan/probes.h defines an entry and a thread's header.
//
// When it flushes: a batch is flushed after an entry if no span is open on the thread and enough time has passed since
// the last flush: 1 ms if the entry is a root span, otherwise 100 ms. So a batch usually has whole requests. A batch is
// also flushed before an entry that the buffer might not hold, and when the thread ends. After that, in later
// destructors of the thread, each entry is flushed at once. If a thread emits nothing more before a flush is due, the
// collector fetches the entries from the buffer.
//
// Why a fetch is safe: an entry holds no pointers. Its thread publishes `next` after the entry, and changes `first`
// whenever it empties the buffer. A copy is valid if `first`, `mark` and `buffer` are the same before and after it.
//
// Limits: 32 KiB per thread and 256 MiB for all threads. If a thread gets no buffer, its entries are counted as
// discarded. If the last tracer detaches, the entries in the buffer are counted as discarded too.
#pragma once

#include "emit/probe.h"
#include "gate/gate.h"
#include "genai/span_attributes.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <nopspan/detail/batch_tap.h>

#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

inline constexpr std::size_t kBatchBytes = 32U << 10U;
// The limit for the buffers of all threads together.
inline constexpr std::size_t kMaxBatchesBytes = 256U << 20U;

// All functions below must be called inside a LibraryGuard.

// Gives the thread a sequence_id, and calls the batch site without entries, so that a tracer learns the address of the
// thread's header. This happens before the thread's first span or entry, so that a tracer can fetch from a thread that
// never flushes.
void announce_thread(ThreadState* thread) noexcept;
inline void announce_once(ThreadState* thread) noexcept {
  if (__builtin_expect(batch_up() && thread->batch.announced != Announced::yes, 0)) announce_thread(thread);
}

// Adds an ended span to the batch. batch_usual_span() is for spans with is_usual(), and may return false. It has then
// done nothing, and batch_span() must be called.
bool batch_usual_span(ThreadState* thread, const SpanState& span) noexcept;
void batch_span(ThreadState* thread, const SpanState& span, const OnceProbes& fired) noexcept;

// Adds a point event, retry or gauge to the batch.
struct PointEntry {
  unsigned char kind;     // NOPSPAN_ENTRY_*
  std::uint64_t time_ns;  // CLOCK_MONOTONIC
  std::uint64_t value;    // the retry's delay in ns, or the gauge's value
  std::uint64_t number;   // the retry's attempt, or the gauge's maximum
  const char* name;       // the gauge's name; null: the event's name
  const char* engine;     // the gauge's engine; null: the event's label
  GaugeLabel label = {};  // of the gauge's name
};
void batch_point(ThreadState* thread, const SpanState& event, const PointEntry& point) noexcept;

// Called when the gate is down: discards and counts the thread's entries, and gives its buffer back.
void discard_batch(ThreadState* thread) noexcept;
inline void discard_batch_if_down(ThreadState* thread) noexcept {
  if (__builtin_expect(thread->batch.announced != Announced::no && !batch_up(), 0)) discard_batch(thread);
}

// Called at the end of a thread: flushes its entries and gives its buffer back.
void end_batches(ThreadState* thread) noexcept;
// Begins a sequence_id: called when the thread is announced, and when its state belongs to a new process after fork().
// Drops the entries in the buffer, because they do not belong to it.
void begin_batches(ThreadState* thread) noexcept;

// The library's side of the tap (nopspan/detail/batch_tap.h). flush() passes the thread's batch to it.
void pass_to_tap(BatchBuffer& batch) noexcept;
// Called at the end of a thread whose last entries were refused.
void tell_refused_at_end(const BatchBuffer& batch) noexcept;
// Called in the child after fork(), outside of a LibraryGuard too.
void forget_batch_tap() noexcept;

}  // namespace nopspan::detail
