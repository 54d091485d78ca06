// SPDX-License-Identifier: Apache-2.0
#include "thread/thread_state.h"

#include "base/counters.h"
#include "base/kept_errno.h"
#include "base/no_cancellation.h"
#include "memory/blocks.h"

#include <nopspan/time.h>

#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <new>
#include <utility>

namespace nopspan::detail {

__thread ThreadLocals locals;
std::atomic<std::atomic<std::uint64_t>*> mark_page{nullptr};

namespace {

constexpr std::size_t kMaxThreads = 65536;
Slab thread_table[kMaxThreads / 64];
Slab header_table[kMaxThreads / 64];

std::uint64_t clock_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

std::atomic<std::uint64_t> mark_without_page{0};

std::atomic<std::uint64_t>* find_mark() {
  std::atomic<std::uint64_t>* page = mark_page.load(std::memory_order_acquire);
  if (page != nullptr) return page;
  const KeptErrno kept_errno;
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = map_memory(size);
#if defined(MADV_WIPEONFORK)
  if (mapped != nullptr && madvise(mapped, size, MADV_WIPEONFORK) != 0) {  // Linux before 4.14 refuses this
    unmap_memory(mapped, size);
    mapped = nullptr;
  }
#endif
  // Without a page, the mark is a plain variable, which forget_other_threads() resets.
  auto* made = mapped != nullptr ? new (mapped) std::atomic<std::uint64_t>(0) : &mark_without_page;
  if (mark_page.compare_exchange_strong(page, made)) return made;
  if (mapped != nullptr) unmap_memory(mapped, size);
  return page;
}

std::uint64_t splitmix(std::uint64_t& state) {
  std::uint64_t z = (state += 0x9e3779b97f4a7c15U);
  z = (z ^ (z >> 30U)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27U)) * 0x94d049bb133111ebU;
  return z ^ (z >> 31U);
}

}  // namespace

Slabs thread_slabs(thread_table, 64, 64 * sizeof(ThreadState));
Slabs header_slabs(header_table, 64, 64 * sizeof(nopspan_thread), true);

std::uint64_t monotonic_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }
std::uint64_t system_ns() noexcept { return clock_ns(CLOCK_REALTIME); }

void system_random(void* out, std::size_t size) noexcept {
  auto* at = static_cast<unsigned char*>(out);
  const KeptErrno kept_errno;
  const NoCancellation no_cancellation;  // getrandom() is a cancellation point
  while (size > 0) {
    const ssize_t got = getrandom(at, size, 0);
    if (got > 0) {
      at += got;
      size -= static_cast<std::size_t>(got);
    } else if (errno != EINTR) {
      break;
    }
  }
  if (size > 0) {  // a seccomp filter may refuse getrandom(), but ids must still differ
    std::uint64_t state = monotonic_ns() ^ reinterpret_cast<std::uintptr_t>(&state) ^ (system_ns() << 20U);
    for (std::size_t i = 0; i < size; ++i) at[i] = static_cast<unsigned char>(splitmix(state));
  }
}

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

void unmap_process_mark() noexcept {
  std::atomic<std::uint64_t>* const page = mark_page.exchange(nullptr);
  if (page != &mark_without_page) unmap_memory(page, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
}

void forget_other_threads(bool reuses) noexcept {
  mark_without_page.store(0);
  const ThreadState* const own = locals.state;
  thread_slabs.for_each_used<ThreadState>([=](ThreadState& thread, const Slabs::Claim& place) {
    if (&thread == own) return;
    thread.reading.store(0);
    if (!reuses) return;
    give_back_block(std::exchange(thread.attribute_bytes, nullptr));
    if (thread.batch.header != nullptr) header_slabs.give_back(thread.batch.header_place);
    thread_slabs.give_back(place);
  });
}

void LibraryGuard::refused() noexcept { count(counters.reentrant); }

}  // namespace nopspan::detail

namespace nopspan {

std::uint64_t now_ns() noexcept { return detail::monotonic_ns(); }

}  // namespace nopspan
