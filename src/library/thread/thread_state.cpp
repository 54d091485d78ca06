// SPDX-License-Identifier: Apache-2.0
#include "thread/thread_state.h"

#include "base/counters.h"
#include "base/kept_errno.h"

#include <nopspan/types.h>

#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <new>
#include <utility>

namespace nopspan::detail {

__thread ThreadLocals locals;
std::atomic<ProcessPage*> own_page{nullptr};

namespace {

constexpr std::size_t kMaxThreads = 65536;
Slab thread_table[kMaxThreads / 64];
Slab header_table[kMaxThreads / 64];

std::uint64_t clock_ns(clockid_t clock) {
  timespec now;
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

ProcessPage without_page;

ProcessPage* make_page() {
  const KeptErrno kept_errno;
  const auto size = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  void* mapped = map_memory(size);
#if defined(MADV_WIPEONFORK)
  if (mapped != nullptr && madvise(mapped, size, MADV_WIPEONFORK) != 0) {  // Linux before 4.14 refuses this
    unmap_memory(mapped, size);
    mapped = nullptr;
  }
#endif
  // Without a page, these are plain variables, which forget_other_threads() resets.
  ProcessPage* made = mapped != nullptr ? new (mapped) ProcessPage : &without_page;
  ProcessPage* page = nullptr;
  if (own_page.compare_exchange_strong(page, made)) return made;
  if (mapped != nullptr) unmap_memory(mapped, size);
  return page;
}

}  // namespace

Slabs thread_slabs(thread_table, 64, 64 * sizeof(ThreadState));
Slabs header_slabs(header_table, 64, 64 * sizeof(nopspan_thread), true);

std::uint64_t monotonic_ns() noexcept { return clock_ns(CLOCK_MONOTONIC); }
std::uint64_t system_ns() noexcept { return clock_ns(CLOCK_REALTIME); }

ProcessPage& process_page() noexcept {
  ProcessPage* const page = own_page.load(std::memory_order_acquire);
  return page != nullptr ? *page : *make_page();
}

std::uint64_t make_process_mark() noexcept {
  ProcessPage& page = process_page();
  std::uint64_t mark = page.mark.load(std::memory_order_relaxed);
  if (__builtin_expect(mark != 0, 1)) return mark;
  std::uint64_t made = 0;
  while (made == 0) process_random(&made, sizeof(made));
  page.pid.store(getpid(), std::memory_order_relaxed);
  return page.mark.compare_exchange_strong(mark, made) ? made : mark;
}

void unmap_process_mark() noexcept {
  ProcessPage* const page = own_page.exchange(nullptr);
  if (page != &without_page) unmap_memory(page, static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
}

void forget_other_threads(bool reuses) noexcept {
  without_page.mark.store(0);
  for (std::atomic<std::uint64_t>& word : without_page.key) word.store(0);
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
