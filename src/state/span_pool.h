// SPDX-License-Identifier: Apache-2.0
// Allocates the states of spans and events. Each thread keeps the memory of up to 64 released states for its next ones.
#pragma once

#include "base/counters.h"
#include "state/given_contexts.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <cstddef>
#include <cstdlib>
#include <new>

namespace nopspan::detail {

inline constexpr std::size_t kMaxPooled = 64;

// Call the next two functions only inside a LibraryGuard, because a signal handler could otherwise find the pool, or
// malloc, in the middle of a change.

// Null if memory runs out (counted).
inline SpanState* take_state(ThreadState* thread) noexcept {
  SpanState* span = nullptr;
  if (Pooled* memory = thread->pool; __builtin_expect(memory != nullptr, 1)) {
    thread->pool = memory->next;
    --thread->pooled;
    span = new (memory) SpanState;
  } else {
    span = new (std::nothrow) SpanState;
    if (span == nullptr) {
      count(counters.spans_dropped);
      return nullptr;
    }
  }
  span->frame.span = span;
  return span;
}

inline void give_back_state(ThreadState* thread, SpanState* span) noexcept {
  if (span->context_given) forget_given(*span);
  give_back_block(reinterpret_cast<unsigned char*>(span->links));
  if (thread->pooled >= kMaxPooled) {
    delete span;
    return;
  }
  span->~SpanState();
  thread->pool = new (static_cast<void*>(span)) Pooled{thread->pool};
  ++thread->pooled;
}

// allocate() is take_state() without inlining. release() may be called anywhere, and returns the state to the pool of
// the calling thread. free_pool() is called at the end of a thread.
SpanState* allocate(ThreadState* thread) noexcept;
void release(SpanState* span) noexcept;
void free_pool(ThreadState* thread) noexcept;

}  // namespace nopspan::detail
