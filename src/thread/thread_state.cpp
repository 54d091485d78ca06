// SPDX-License-Identifier: Apache-2.0
#include "thread/thread_state.h"

#include "base/counters.h"
#include "base/exceptions.h"
#include "emit/batch.h"
#include "state/identity.h"
#include "state/span_state.h"

#include <cxxabi.h>
#include <pthread.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

extern "C" __attribute__((visibility("hidden"))) void* __dso_handle;

namespace nopspan::detail {

__thread ThreadLocals locals;
std::atomic<ThreadState*> all_threads{nullptr};
bool disabled = false;
std::atomic<std::atomic<std::uint64_t>*> mark_page{nullptr};

namespace {

std::uint64_t clock_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

std::atomic<std::uint64_t> mark_without_page{0};

std::atomic<std::uint64_t>* find_mark() {
  std::atomic<std::uint64_t>* page = mark_page.load(std::memory_order_acquire);
  if (page != nullptr) return page;
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) return &mark_without_page;
#if defined(MADV_WIPEONFORK)
  if (madvise(mapped, size, MADV_WIPEONFORK) != 0) {  // before Linux 4.14: forget_other_threads() does it
    munmap(mapped, size);
    return &mark_without_page;
  }
#endif
  auto* made = new (mapped) std::atomic<std::uint64_t>(0);
  if (mark_page.compare_exchange_strong(page, made)) return made;
  munmap(mapped, size);
  return page;
}

// Destructors of such keys run when all that __cxa_thread_atexit() registered is over: a state that one of them makes
// is given back by ours.
pthread_key_t end_key;
std::atomic<bool> has_end_key{false};

void set_end_key(ThreadState* thread) {
  if (has_end_key.load(std::memory_order_relaxed)) pthread_setspecific(end_key, thread);
}

// At the end of a thread.
void give_back(void* state) {
  auto* thread = static_cast<ThreadState*>(state);
  if (locals.state != thread) return;
  thread->busy = true;   // nobody tells any more what a signal handler writes into it
  set_end_key(nullptr);  // from here on the library may be unloaded
  end_batches(thread);
  locals.has_ended = true;
  free_pool(thread);
  std::free(thread->attribute_bytes);
  thread->attribute_bytes = nullptr;
  locals.state = nullptr;
  thread->reading.store(0, std::memory_order_release);
  thread->in_use.store(false, std::memory_order_release);
}

__attribute__((constructor)) void make_end_key() { has_end_key = pthread_key_create(&end_key, give_back) == 0; }
__attribute__((destructor)) void delete_end_key() {
  if (has_end_key.exchange(false)) pthread_key_delete(end_key);
}

void begin_life(ThreadState* thread, std::uint64_t mark) {
  thread->process_mark = mark;
  thread->entropy_left = 0;
  thread->clock = {};
  std::memset(thread->sequence, 0, sizeof(thread->sequence));
  system_random(thread->random, sizeof(thread->random));
  system_random(&thread->stream, sizeof(thread->stream));
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
  thread->busy = true;  // until it is whole
  thread->error_number = &errno;
  thread->exceptions_in_flight = detail::exceptions_in_flight();
  thread->in_doubt = true;
  thread->doubt_since_ns = 0;
  locals.state = thread;
  thread->in_use.store(true);  // where a handler forked before, its child has taken this for another thread's
  begin_life(thread, process_mark());
  // Not a thread_local with a destructor: a span in a later destructor of this thread makes a state again, and this can
  // be registered again. It keeps a library that was dlopen'ed mapped until the thread has ended.
  abi::__cxa_thread_atexit(give_back, thread, &__dso_handle);
  set_end_key(thread);
  thread->busy = false;
  return thread;
}

}  // namespace

std::uint64_t monotonic_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }
std::uint64_t system_ns() noexcept { return clock_ns(CLOCK_REALTIME); }

std::uint64_t make_process_mark() noexcept {
  std::atomic<std::uint64_t>* where = mark_page.load(std::memory_order_acquire);
  if (__builtin_expect(where == nullptr, 0)) where = find_mark();
  std::uint64_t mark = where->load(std::memory_order_relaxed);
  if (__builtin_expect(mark != 0, 1)) return mark;
  std::uint64_t made = 0;
  while (made == 0) system_random(&made, sizeof(made));
  return where->compare_exchange_strong(mark, made) ? made : mark;
}

const void* process_mark_address() noexcept {
  const void* page = mark_page.load(std::memory_order_acquire);
  return page != nullptr ? page : find_mark();
}

ThreadState* make_thread_state() noexcept {
  ThreadState* thread = locals.state;
  if (thread == nullptr) return make_state();
  const KeptErrno kept_errno;
  const bool was_busy = std::exchange(thread->busy, true);
  begin_life(thread, process_mark());
  thread->busy = was_busy;
  return thread;
}

void forget_other_threads() noexcept {
  mark_without_page.store(0);
  for (ThreadState* thread = all_threads.load(); thread != nullptr; thread = thread->next) {
    if (thread == locals.state) continue;
    thread->reading.store(0);
    thread->pool = nullptr;  // may have been half changed
    thread->pooled = 0;
    thread->in_use.store(false);
  }
}

void Entry::refused() noexcept { count(counters.reentrant); }
void Entry::no_memory() noexcept { count(counters.spans_dropped); }

}  // namespace nopspan::detail
