// SPDX-License-Identifier: Apache-2.0
#include "state/given_contexts.h"

#include "base/counters.h"
#include "gate/gate.h"

namespace nopspan::detail {

GivenContexts given_contexts;

bool GivenContexts::add(std::uint64_t id, std::uint64_t parent_id) noexcept {
  for (const std::uint64_t is_free : {std::uint64_t{0}, kEnded}) {
    for (std::size_t i = 0; i < kPlaces; ++i) {
      Place& place = at(id, i);
      std::uint64_t word = place.word.load(std::memory_order_relaxed);
      if ((is_free == 0 ? word != 0 : (word & kEnded) == 0) ||
          !place.word.compare_exchange_strong(word, kTaken, std::memory_order_acquire, std::memory_order_relaxed)) {
        continue;
      }
      place.parent_id.store(parent_id, std::memory_order_relaxed);
      place.word.store(id & ~kBits, std::memory_order_release);
      return true;
    }
  }
  return false;
}

bool GivenContexts::mark(std::uint64_t id, std::uint64_t facts, std::uint64_t& parent_id) noexcept {
  for (std::size_t i = 0; i < kPlaces; ++i) {
    Place& place = at(id, i);
    std::uint64_t word = place.word.load(std::memory_order_acquire);
    while ((word & ~kBits) == (id & ~kBits)) {
      const std::uint64_t parent = place.parent_id.load(std::memory_order_relaxed);
      if (place.word.compare_exchange_weak(word, word | facts, std::memory_order_acq_rel, std::memory_order_acquire)) {
        parent_id = parent;
        return (word & facts) != facts;
      }
    }
  }
  return false;
}

std::uint64_t GivenContexts::end(std::uint64_t id) noexcept {
  for (std::size_t i = 0; i < kPlaces; ++i) {
    Place& place = at(id, i);
    if ((place.word.load(std::memory_order_relaxed) & ~kBits) != (id & ~kBits)) continue;
    return place.word.fetch_or(kEnded, std::memory_order_acq_rel) & kFacts;
  }
  return 0;
}

void note_given(SpanState& span) noexcept {
  if (span.context_given || !(point_probes_up() || batch_up())) return;
  span.context_given = given_contexts.add(span.context.span_id, local_parent(span));
  if (!span.context_given) count(counters.facts_untracked);
}

void forget_given(SpanState& span) noexcept {
  span.context_given = false;
  given_contexts.end(span.context.span_id);
}

}  // namespace nopspan::detail
