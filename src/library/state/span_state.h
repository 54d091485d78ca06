// SPDX-License-Identifier: Apache-2.0
// The state of a live span or event. The handle in the application, for example a Span, points to it.
#pragma once

#include "base/counters.h"
#include "memory/slabs.h"
#include "state/catalogue.h"
#include "state/context_access.h"
#include "state/field_sink.h"
#include "state/given_contexts.h"
#include "state/intern.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/probes.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>

namespace nopspan::detail {

struct SpanState : FieldSink {
  explicit SpanState(Reused reused) noexcept : FieldSink(reused) { error_type[0] = request_id[0] = '\0'; }

  const CatalogueSpan* catalogue = nullptr;  // null if the span is in no catalogue, or for an event
  Interned name;                             // in name_text
  Frame frame;                               // its place on its thread's context stack
  Slabs::Claim place;                        // in span_slabs
  std::uint64_t end_ns = 0;                  // 0: the time is read when the span ends
  std::uint64_t duration_ns = 0;
  int uncaught = 0;             // exceptions in flight on its thread when it began
  bool started = false;         // its start was emitted
  bool begins_request = false;  // it began a new request
  bool has_ids = false;         // add_ids() was called, or must do nothing
  Point point = Point::event;
  const char* exception_kind = "";
  char error_type[kMaxNameBytes + 1];
  mutable char request_id[24];  // use canonical_id()
};

// The bytes to reserve for what is added to the fields of a span or event for handlers: measurements, ids and labels.
std::size_t added_bytes(const SpanState& state) noexcept;
// Adds the span's ids and labels to its metadata, for handlers. Does so once per span. If the application has set such
// a key, its value is kept.
void add_ids(SpanState& span) noexcept;
// Adds the request's id as the trace_id of an agent's span or event inside a request, for handlers. Needs the room of
// added_bytes().
void add_trace_id(SpanState& state) noexcept;

// The parent's id, if the parent is a span of this process; otherwise 0.
inline std::uint64_t local_parent(const SpanState& state) noexcept {
  return (state.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? 0 : state.context.parent_id;
}

inline bool has_failed(const SpanState& state) noexcept {
  return state.status == NOPSPAN_STATUS_ERROR || state.status == NOPSPAN_STATUS_EXCEPTION;
}

inline bool has_request(const SpanState& state) noexcept { return !is_empty(state.context); }

// The request id in its canonical form: 22 characters and two NULs. All 24 bytes are NULs if there is no request. It is
// encoded at the first call.
inline const char (&canonical_id(const SpanState& state) noexcept)[24] {
  if (state.request_id[0] == '\0') {
    std::memset(state.request_id, 0, sizeof(state.request_id));
    if (has_request(state)) encode_request_id(state.context.trace_id, state.request_id);
  }
  return state.request_id;
}

// The request id that users see: the one that the application supplied if it is in another form, else the canonical id.
inline const char* visible_id(const SpanState& state) noexcept {
  if (!has_request(state)) return "";
  return (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? state.foreign_id : canonical_id(state);
}

// Allocates the states of spans and events. They are elements of slabs that tracers can read (OpenSpan). Each thread
// keeps up to 64 released states for its next ones.
inline constexpr std::size_t kMaxPooled = 64;
inline constexpr std::size_t kMaxOpenSlabs = 16384;
extern Slab span_table[kMaxOpenSlabs];
extern Slabs span_slabs;

// A state that is not in use, in the pool of a thread. It is behind the part that tracers read.
struct Pooled {
  Pooled* next;
  Slabs::Claim place;
};
inline unsigned char* memory_of(Pooled* pooled) noexcept {
  return reinterpret_cast<unsigned char*>(pooled) - sizeof(OpenSpan);
}
inline Pooled* pooled_at(void* memory) noexcept {
  return reinterpret_cast<Pooled*>(static_cast<unsigned char*>(memory) + sizeof(OpenSpan));
}

// Call the next two functions only inside a LibraryGuard, because a signal handler could otherwise find the pool in the
// middle of a change.

// Adds states to an empty pool. Null if memory runs out (counted).
Pooled* fill_pool(ThreadState* thread) noexcept;

// Null if memory runs out (counted).
inline SpanState* take_state(ThreadState* thread) noexcept {
  Pooled* pooled = thread->pool;
  if (__builtin_expect(pooled == nullptr, 0)) {
    pooled = fill_pool(thread);
    if (pooled == nullptr) return nullptr;
  }
  thread->pool = pooled->next;
  --thread->pooled;
  const Slabs::Claim place = pooled->place;
  unsigned char* const memory = memory_of(pooled);
  auto* const open = reinterpret_cast<OpenSpan*>(memory);
  const std::uint32_t generation = open->generation;
  open->state.store(OpenSpan::kChanging, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);  // before the fields are written
  auto* const span = new (memory) SpanState(Reused{});
  // Memory that was returned to the kernel begins with generation 0 again.
  span->generation = generation != 0 ? generation + 1 : static_cast<std::uint32_t>(thread->random.state[0]) | 1U;
  span->thread_id = thread->thread_id;
  span->place = place;
  span->frame.span = span;
  span->frame.context = &span->context;
  span->frame.foreign_id = span->foreign_id;
  span->frame.word.store(0, std::memory_order_relaxed);
  return span;
}

// Releases what a state holds. It is no longer open for tracers.
inline void clear_state(SpanState* span) noexcept {
  if (span->context_given) forget_given(*span);
  if (__builtin_expect(span->links != nullptr, 0)) give_back_block(reinterpret_cast<unsigned char*>(span->links));
  span->fields.~FieldBuffer();
  span->state.store(OpenSpan::kFree, std::memory_order_release);
}

inline void give_back_state(ThreadState* thread, SpanState* span) noexcept {
  clear_state(span);
  if (__builtin_expect(thread->pooled >= kMaxPooled, 0)) {
    span_slabs.give_back(span->place);
    return;
  }
  const Slabs::Claim place = span->place;
  thread->pool = new (pooled_at(span)) Pooled{thread->pool, place};
  ++thread->pooled;
}

// allocate() is take_state() without inlining. release() may be called anywhere, and returns the state to the pool of
// the calling thread. free_pool() is called at the end of a thread.
SpanState* allocate(ThreadState* thread) noexcept;
void release(SpanState* span) noexcept;
void free_pool(ThreadState* thread) noexcept;

// Maps memory for the states of so many threads, each of which has up to kMaxPooled spans open.
bool reserve_states(std::size_t threads) noexcept;

// Calls `each(SpanState&)` for the states that are claimed: those of spans and events, and those in pools. Other
// threads may be changing them.
template <class Each>
void for_each_state(const Each& each) {
  span_slabs.for_each_used<SpanState>([&](SpanState& span, const Slabs::Claim&) { each(span); });
}

// Called in the child after fork(), outside the library: the pools and the stacks of the other threads no longer exist.
void reclaim_states_of_other_threads() noexcept;

}  // namespace nopspan::detail
