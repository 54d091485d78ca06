// SPDX-License-Identifier: Apache-2.0
// What the library keeps for each thread that emitted something, and how it is entered.
#pragma once

#include "thread/batch_buffer.h"
#include "thread/counter_clock.h"

#include <nopspan/context.h>

#include <errno.h>

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

struct SpanState;

inline constexpr std::size_t kNotedChildren = 32;

// The memory of a SpanState that is not in use.
struct Pooled {
  Pooled* next;
};

// One for each site in sites.S.
enum class Probe : std::uint8_t {
  span_start,
  span_stop,
  span_exception,
  event,
  first_token,
  tokens,
  retry,
  tool_call,
  engine_request,
  gauge,
};
inline constexpr std::size_t kProbes = 10;

std::uint64_t monotonic_ns() noexcept;  // CLOCK_MONOTONIC
std::uint64_t system_ns() noexcept;     // CLOCK_REALTIME

// Bytes of getrandom(2). If that fails, they are mixed from clocks and addresses.
void system_random(void* out, std::size_t size) noexcept;

struct ThisMachine : ProcessorCounter {
  static std::uint64_t clock() noexcept { return monotonic_ns(); }
};

// Never freed: a thread that ends leaves it to the next one. alignas: `reading` is read by other threads.
struct alignas(64) ThreadState {
  // The epoch of the registry's table that this thread reads; 0: none. See registry.cpp.
  std::atomic<std::uint64_t> reading{0};
  std::atomic<bool> in_use{true};
  ThreadState* next = nullptr;  // all of them; set before it is published

  // The thread's own, which it would take calls to find.
  int* error_number = nullptr;                     // errno
  const unsigned* exceptions_in_flight = nullptr;  // see exceptions.h

  unsigned dispatching = 0;  // depth of nested dispatches
  unsigned destroying = 0;   // depth of destructors of detached handlers
  bool busy = false;         // inside the library, outside any application code: a signal handler must not enter

  std::uint64_t process_mark = 0;  // of the process that the fields below belong to
  std::uint64_t stream = 0;
  std::uint64_t sequence[kProbes] = {};
  std::uint64_t random[4] = {};  // xoshiro256**
  unsigned char entropy[512] = {};
  std::size_t entropy_left = 0;
  CounterClock<ThisMachine> clock;  // CLOCK_MONOTONIC, inside an LibraryGuard

  bool in_doubt = true;  // see orphans.h
  std::uint64_t doubt_since_ns = 0;
  const char* noted_children[kNotedChildren] = {};  // names that this thread has noted

  Pooled* pool = nullptr;
  std::size_t pooled = 0;
  BatchBuffer batch;
  unsigned char* attribute_bytes = nullptr;  // kMaxAttributesBytes, made when first needed
};

// Thread-local storage proper: trivial, so that it can be used before and after everything else of the thread.
struct ThreadLocals {
  Frame* top = nullptr;
  ThreadState* state = nullptr;
  bool has_ended = false;  // its state was given back; what emits now runs in destructors
};
// Not thread_local, which would add a check for dynamic initialization in every other file. initial-exec TLS, because
// the default model makes every access in the shared library a call. These few bytes fit into the static TLS block of
// any process, after a dlopen() too.
extern __thread ThreadLocals locals __attribute__((tls_model("initial-exec")));

// NOPSPAN_DISABLE=1: this process emits nothing.
extern bool disabled;

// All states ever made, for the registry.
extern std::atomic<ThreadState*> all_threads;

// Holds the process mark. The kernel gives a child this page as zeroes, so that fork() is seen without a call to
// getpid(), and a raw clone() without pthread_atfork().
extern std::atomic<std::atomic<std::uint64_t>*> mark_page;
std::uint64_t make_process_mark() noexcept;
const void* process_mark_address() noexcept;  // of what process_mark() returns

// A number that differs between this process and its children by fork() or clone().
inline std::uint64_t process_mark() noexcept {
  const std::atomic<std::uint64_t>* page = mark_page.load(std::memory_order_acquire);
  const std::uint64_t mark = page != nullptr ? page->load(std::memory_order_relaxed) : 0;
  return __builtin_expect(mark != 0, 1) ? mark : make_process_mark();
}

ThreadState* make_thread_state() noexcept;  // in span/thread_life.cpp

// This thread's state, made if need be and belonging to this process (after fork(): a new stream, sequence 0, new
// seeds). Null when there is no memory.
inline ThreadState* thread_state() noexcept {
  ThreadState* thread = locals.state;
  return __builtin_expect(thread != nullptr && thread->process_mark == process_mark(), 1) ? thread
                                                                                          : make_thread_state();
}

// In the child of fork(): no other thread lives.
void forget_other_threads() noexcept;

// What the application finds in errno is its own.
class KeptErrno {
 public:
  KeptErrno() noexcept : kept_(errno) {}
  ~KeptErrno() { errno = kept_; }
  KeptErrno(const KeptErrno&) = delete;
  KeptErrno& operator=(const KeptErrno&) = delete;

 private:
  int kept_;
};

// Marks the thread as inside the library. False if nothing may be emitted: under NOPSPAN_DISABLE, without memory, or in
// a signal handler that interrupted the library (counted).
class LibraryGuard {
 public:
  LibraryGuard() noexcept {
    if (disabled) return;
    ThreadState* thread = locals.state;
    if (thread != nullptr && __builtin_expect(thread->busy, 0)) {
      refused();
      return;
    }
    thread = thread_state();
    if (__builtin_expect(thread == nullptr, 0)) {
      no_memory();
      return;
    }
    thread->busy = true;
    thread_ = thread;
    kept_errno_ = *thread->error_number;
  }
  ~LibraryGuard() {
    if (thread_ == nullptr) return;
    *thread_->error_number = kept_errno_;
    thread_->busy = false;
  }
  LibraryGuard(const LibraryGuard&) = delete;
  LibraryGuard& operator=(const LibraryGuard&) = delete;

  explicit operator bool() const noexcept { return thread_ != nullptr; }
  [[nodiscard]] ThreadState* thread() const noexcept { return thread_; }

 private:
  static void refused() noexcept;
  static void no_memory() noexcept;

  ThreadState* thread_ = nullptr;
  int kept_errno_ = 0;  // as KeptErrno does
};

// Inside the library too, where nothing is emitted that LibraryGuard could refuse: Fields' setters, the registry's
// writers.
class InsideLibrary {
 public:
  InsideLibrary() noexcept : thread_(locals.state != nullptr ? locals.state : thread_state()) {
    if (thread_ == nullptr) return;
    before_ = thread_->busy;
    thread_->busy = true;
  }
  ~InsideLibrary() {
    if (thread_ != nullptr) thread_->busy = before_;
  }
  InsideLibrary(const InsideLibrary&) = delete;
  InsideLibrary& operator=(const InsideLibrary&) = delete;

 private:
  ThreadState* thread_;
  bool before_ = false;
};

// CLOCK_MONOTONIC as this thread's spans are told it, where there is no LibraryGuard. Not for what a span may
// interrupt.
inline std::uint64_t thread_ns() noexcept {
  ThreadState* thread = locals.state;
  if (thread == nullptr || thread->busy) return monotonic_ns();
  thread->busy = true;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  const std::uint64_t now = thread->clock.now();
  std::atomic_signal_fence(std::memory_order_seq_cst);
  thread->busy = false;
  return now;
}

}  // namespace nopspan::detail
