// SPDX-License-Identifier: Apache-2.0
// Begins and ends a thread's use of a ThreadState. This file is in the room span, because it needs the thread's batch
// and its pool of span states, which the room thread may not include.
#include "base/exceptions.h"
#include "emit/batch.h"
#include "state/span_pool.h"
#include "thread/thread_state.h"

#include <cxxabi.h>
#include <pthread.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace nopspan::detail {
namespace {

// Destructors of pthread keys run after all functions that __cxa_thread_atexit() registered. If such a destructor emits
// a span, a state is made again. The destructor of this key ends that state too.
pthread_key_t end_key;
std::atomic<bool> has_end_key{false};

void set_end_key(ThreadState* thread) {
  if (has_end_key.load(std::memory_order_relaxed)) pthread_setspecific(end_key, thread);
}

// Called at the end of a thread: flushes its batch, and releases its state for the next thread.
void end_thread(void* state) {
  auto* thread = static_cast<ThreadState*>(state);
  if (locals.state != thread) return;
  thread->busy = true;   // because an entry that a signal handler writes now would never be flushed
  set_end_key(nullptr);  // because the library may be unloaded from now on
  end_batches(thread);
  locals.has_ended = true;
  free_pool(thread);
  std::free(thread->attribute_bytes);
  thread->attribute_bytes = nullptr;
  locals.state = nullptr;
  thread->reading.store(0, std::memory_order_release);
  thread->in_use.store(false, std::memory_order_release);
}

__attribute__((constructor)) void make_end_key() { has_end_key = pthread_key_create(&end_key, end_thread) == 0; }
__attribute__((destructor)) void delete_end_key() {
  if (has_end_key.exchange(false)) pthread_key_delete(end_key);
}

void reset_for_process(ThreadState* thread, std::uint64_t mark) {
  thread->process_mark = mark;
  thread->entropy_left = 0;
  thread->clock = {};
  std::memset(thread->sequence, 0, sizeof(thread->sequence));
  system_random(thread->random, sizeof(thread->random));
  system_random(&thread->sequence_id, sizeof(thread->sequence_id));
  begin_batches(thread);
}

ThreadState* make_state() {
  const KeptErrno kept_errno;
  ThreadState* thread = nullptr;
  for (ThreadState* old = all_threads.load(std::memory_order_acquire); old != nullptr; old = old->next) {
    bool used = false;
    if (!old->in_use.load(std::memory_order_relaxed) &&
        old->in_use.compare_exchange_strong(used, true, std::memory_order_acq_rel)) {
      thread = old;
      break;
    }
  }
  if (thread == nullptr) {
    void* memory = std::aligned_alloc(alignof(ThreadState), sizeof(ThreadState));
    if (memory == nullptr) return nullptr;
    thread = new (memory) ThreadState;
    thread->next = all_threads.load(std::memory_order_relaxed);
    while (!all_threads.compare_exchange_weak(thread->next, thread, std::memory_order_acq_rel)) {
    }
  }
  thread->dispatching = 0;
  thread->destroying = 0;
  thread->busy = true;  // until the state is complete
  thread->error_number = &errno;
  thread->exceptions_in_flight = detail::exceptions_in_flight();
  thread->in_doubt = true;
  thread->doubt_since_ns = 0;
  locals.state = thread;
  // Again, because a signal handler may have forked just now. In the child, forget_other_threads() has cleared it.
  thread->in_use.store(true);
  reset_for_process(thread, process_mark());
  // A thread_local with a destructor would run only once, but this can be registered again if a span in a later
  // destructor of this thread makes a state again. It also keeps a library that was loaded by dlopen() mapped until the
  // thread has ended.
  abi::__cxa_thread_atexit(end_thread, thread, &__dso_handle);
  set_end_key(thread);
  thread->busy = false;
  return thread;
}

}  // namespace

ThreadState* make_thread_state() noexcept {
  ThreadState* thread = locals.state;
  if (thread == nullptr) return make_state();
  const KeptErrno kept_errno;
  const bool was_busy = std::exchange(thread->busy, true);
  reset_for_process(thread, process_mark());
  thread->busy = was_busy;
  return thread;
}

}  // namespace nopspan::detail
