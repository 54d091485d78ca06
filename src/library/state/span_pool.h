// SPDX-License-Identifier: Apache-2.0
// Allocates the states of spans and events. They are elements of slabs that tracers can read (OpenSpan). Each thread
// keeps up to 64 released states for its next ones.
#pragma once

#include "base/counters.h"
#include "memory/slabs.h"
#include "state/given_contexts.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <new>

namespace nopspan::detail {

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

// release() may be called anywhere, and returns the state to the pool of the calling thread. free_pool() is called at
// the end of a thread.
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
