// SPDX-License-Identifier: Apache-2.0
// Begins and ends a thread's use of a ThreadState. This file is in the room span, because it needs the thread's batch
// and its pool of span states, which the room thread may not include.
#include "base/chacha.h"
#include "base/counters.h"
#include "base/exceptions.h"
#include "base/kept_errno.h"
#include "emit/batch.h"
#include "memory/slabs.h"
#include "span/span.h"
#include "state/context_stack.h"
#include "state/span_pool.h"
#include "thread/thread_state.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#include <cstring>
#include <utility>

namespace nopspan::detail {
namespace {

// The destructor of this key ends the thread's state. __cxa_thread_atexit() is not used, because it allocates. The key
// is made when the library is loaded, so that its number is usually below 32: glibc allocates for larger ones.
constexpr pthread_key_t kNoKey = ~pthread_key_t{0};
std::atomic<pthread_key_t> end_key{kNoKey};

// Flushes the thread's batch, and releases its state for the next thread.
void end_state(ThreadState* thread) {
  thread->busy = true;  // because an entry that a signal handler writes now would never be flushed
  end_batches(thread);
  locals.has_ended = true;
  leave_all(thread);
  free_pool(thread);
  give_back_block(std::exchange(thread->attribute_bytes, nullptr));
  locals.state = nullptr;
  thread->reading.store(0, std::memory_order_release);
  thread_slabs.give_back(thread->place);
}

// Called at the end of a thread. If a later destructor of the thread emits a span, a new state is made, and glibc calls
// this function again, but only in 4 rounds. It asks to be called in each of the first rounds, and after the last of
// them no state is made, because it might never be released. In round 4 the sanitizers end their own part of a thread,
// so it must not run then.
constexpr unsigned kLastRound = PTHREAD_DESTRUCTOR_ITERATIONS - 1;
void end_thread(void*) {
  if (locals.state != nullptr) end_state(locals.state);
  if (++locals.rounds < kLastRound) pthread_setspecific(end_key, &locals);
}

// Before the constructors of the application, which may start threads. Called again later if the process had no key
// left.
__attribute__((constructor(101))) void make_end_key() {
  pthread_key_t made = kNoKey;
  pthread_key_t none = kNoKey;
  if (pthread_key_create(&made, end_thread) != 0) return;
  if (!end_key.compare_exchange_strong(none, made)) pthread_key_delete(made);  // another thread has made one
}

void reset_for_process(ThreadState* thread, std::uint64_t mark) {
  thread->clock = {};
  thread->thread_id = static_cast<std::uint32_t>(syscall(SYS_gettid));
  thread->sequence_since_ns = kNoSequence;
  std::memset(thread->sequence, 0, sizeof(thread->sequence));
  thread->copies = process_page().copies.load(std::memory_order_relaxed);
  thread->renewed_ns.store(thread->clock.now(), std::memory_order_relaxed);
  constexpr std::size_t kKeys = offsetof(decltype(thread->random), entropy), kEntropy = kChachaBytes - kKeys;
  process_random(&thread->random, kKeys + kEntropy);
  thread->entropy_left = kEntropy;
  thread->process_mark = mark;
  begin_batches(thread);
}

// Makes glibc call end_thread() at the end of the thread. False if there is no memory for that, or no key.
bool register_end(ThreadState* thread) {
  if (end_key.load(std::memory_order_relaxed) == kNoKey) make_end_key();
  const pthread_key_t key = end_key.load(std::memory_order_relaxed);
  constexpr pthread_key_t kWithoutMemory = 32;
  if (key >= kWithoutMemory && key != kNoKey) count(counters.thread_allocations);
  return pthread_setspecific(key, thread) == 0;
}

ThreadState* make_state() {
  if (locals.making || locals.rounds == kLastRound) return nullptr;
  const KeptErrno kept_errno;
  locals.making = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  ThreadState* thread = nullptr;
  const Slabs::Claim place = thread_slabs.claim(1);
  if (place.bits != 0 && unloading.load(std::memory_order_seq_cst)) {
    thread_slabs.give_back(place);
  } else if (place.bits != 0) {
    thread = thread_slabs.element<ThreadState>(place);
    thread->place = place;
    thread->dispatching = 0;
    thread->destroying = 0;
    thread->destroys_detached = false;
    thread->error_number = &errno;
    thread->exceptions_in_flight = detail::exceptions_in_flight();
    thread->thrown.state = Thrown::State::none;
    thread->in_doubt = true;
    thread->doubt_since_ns = 0;
    thread->free_scopes = nullptr;
    thread->claimed_scopes = {};
    thread->frames_kept = thread->frames_claimed = 0;
    thread->pool = nullptr;
    thread->pooled = 0;
    thread->claimed = {};
    thread->batch.header = nullptr;
    thread->attribute_bytes = nullptr;
    reset_for_process(thread, process_mark());
    if (register_end(thread)) {
      thread->busy = false;
      locals.state = thread;
    } else {
      thread_slabs.give_back(place);
      thread = nullptr;
    }
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  locals.making = false;
  return thread;
}

}  // namespace

void LibraryGuard::no_state() noexcept {
  const bool has_key = end_key.load(std::memory_order_relaxed) != kNoKey;
  count_dropped(!has_key || locals.rounds == kLastRound || thread_slabs.is_full());
}

void end_this_thread() noexcept {
  if (locals.state != nullptr) end_state(locals.state);
}

void forget_thread_ends() noexcept { pthread_key_delete(end_key.exchange(kNoKey)); }

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
