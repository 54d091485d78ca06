// SPDX-License-Identifier: Apache-2.0
#include "state/span_pool.h"

namespace nopspan::detail {

SpanState* allocate(ThreadState* thread) noexcept { return take_state(thread); }

void release(SpanState* span) noexcept {
  ThreadState* thread = locals.state;
  if (__builtin_expect(thread != nullptr && !thread->busy, 1)) {
    thread->busy = true;
    give_back_state(thread, span);
    thread->busy = false;
    return;
  }
  // The thread has no state any more, or this is a signal handler that interrupted the library.
  if (span->context_given) forget_given(*span);
  give_back_block(reinterpret_cast<unsigned char*>(span->links));
  delete span;
}

void free_pool(ThreadState* thread) noexcept {
  while (thread->pool != nullptr) {
    Pooled* memory = thread->pool;
    thread->pool = memory->next;
    ::operator delete(memory);
  }
  thread->pooled = 0;
}

}  // namespace nopspan::detail
