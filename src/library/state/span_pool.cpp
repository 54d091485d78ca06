// SPDX-License-Identifier: Apache-2.0
#include "state/span_pool.h"

#include "state/context_stack.h"

namespace nopspan::detail {

Slab span_table[kMaxOpenSlabs];

namespace {

constexpr unsigned kPerSlab = 64;
constexpr unsigned kAtOnce = 16;  // states that a thread claims at once
}  // namespace

Slabs span_slabs(span_table, kPerSlab, kPerSlab * sizeof(SpanState));

__attribute__((noinline)) Pooled* fill_pool(ThreadState* thread) noexcept {
  Slabs::Claim& claimed = thread->claimed;
  if (claimed.bits == 0) {
    drop_ended_below(thread);
    claimed = span_slabs.claim(kAtOnce);
  }
  if (claimed.bits == 0) {
    count_dropped(span_slabs.is_full());
    return nullptr;
  }
  // The others stay untouched, so that a thread with few spans does not touch much memory.
  const Slabs::Claim place{claimed.slab, claimed.bits & ~(claimed.bits - 1)};
  claimed.bits &= ~place.bits;
  thread->pool = new (pooled_at(span_slabs.element<SpanState>(place))) Pooled{nullptr, place};
  ++thread->pooled;
  return thread->pool;
}

void release(SpanState* span) noexcept {
  ThreadState* thread = locals.state;
  if (__builtin_expect(thread != nullptr && !thread->busy, 1)) {
    const InsideLibrary inside;
    give_back_state(thread, span);
    return;
  }
  // The thread has no state any more, or this is a signal handler that interrupted the library.
  clear_state(span);
  span_slabs.give_back(span->place);
}

void free_pool(ThreadState* thread) noexcept {
  while (thread->pool != nullptr) {
    Pooled* const pooled = thread->pool;
    thread->pool = pooled->next;
    span_slabs.give_back(pooled->place);
  }
  thread->pooled = 0;
  if (thread->claimed.bits != 0) span_slabs.give_back(thread->claimed);
  thread->claimed = {};
}

bool reserve_states(std::size_t threads) noexcept { return span_slabs.reserve(threads * (kMaxPooled + kAtOnce)); }

void reclaim_states_of_other_threads() noexcept {
  const ThreadState* const own = locals.state;
  span_slabs.for_each_used<SpanState>([own](SpanState& span, const Slabs::Claim& place) {
    if (span.state.load(std::memory_order_relaxed) != OpenSpan::kFree) {
      // If the span is a scope of another thread, it may still end here.
      if (span.frame.owner.load(std::memory_order_relaxed) != own) span.frame.word.store(0, std::memory_order_relaxed);
      return;
    }
    if (own != nullptr && own->claimed.slab == place.slab && (own->claimed.bits & place.bits) != 0) return;
    const Pooled* of_own = own != nullptr ? own->pool : nullptr;
    while (of_own != nullptr && of_own != pooled_at(&span)) of_own = of_own->next;
    if (of_own == nullptr) span_slabs.give_back(place);
  });
}

}  // namespace nopspan::detail
