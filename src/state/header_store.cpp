// SPDX-License-Identifier: Apache-2.0
#include "state/header_store.h"

#include "base/counters.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>

namespace nopspan::detail {
namespace {

constexpr std::size_t kRings = 2;
constexpr std::size_t kSlots = 4096;  // of a ring
constexpr std::size_t kSlotBytes = kMaxTracestateBytes;

// A text of at most 512 bytes, protected by a seqlock. A writer makes the generation odd, writes, and makes it even
// again. A reader copies the words, and uses the copy only if the generation was the same before and after. Words are
// atomic, so the race is not undefined behaviour. Nobody ever waits: a writer skips a slot that is being written, so
// fork() and signals cannot leave a lock behind.
struct Slot {
  std::atomic<std::uint64_t> generation;  // odd while it is written
  std::atomic<std::uint64_t> size;
  std::atomic<std::uint64_t> next;  // the handle of the rest, or 0
  std::atomic<std::uint64_t> words[kSlotBytes / 8];
};
Slot slots[kRings * kSlots];
std::atomic<std::uint64_t> next_slot[kRings];

// Returns 0 (counted) if all slots of the ring are being written.
std::uint64_t store(std::string_view text, std::uint64_t next, std::size_t ring) noexcept {
  for (std::size_t tries = 0; tries < kSlots; ++tries) {
    const std::uint64_t number = ring * kSlots + next_slot[ring].fetch_add(1, std::memory_order_relaxed) % kSlots;
    Slot& slot = slots[number];
    std::uint64_t generation = slot.generation.load(std::memory_order_relaxed);
    if ((generation & 1U) != 0) continue;  // another thread is writing, or was when this process was forked
    if (!slot.generation.compare_exchange_strong(generation, generation + 1, std::memory_order_acquire)) continue;
    std::atomic_thread_fence(std::memory_order_release);
    slot.size.store(text.size(), std::memory_order_relaxed);
    slot.next.store(next, std::memory_order_relaxed);
    for (std::size_t i = 0; i < (text.size() + 7) / 8; ++i) {
      std::uint64_t word = 0;
      std::memcpy(&word, text.data() + 8 * i, std::min<std::size_t>(8, text.size() - 8 * i));
      slot.words[i].store(word, std::memory_order_relaxed);
    }
    slot.generation.store(generation + 2, std::memory_order_release);
    return (generation + 2) * std::size(slots) + number;
  }
  count(counters.tracestate_evicted);
  return 0;
}

// Copies the text of one slot to `out` (512 bytes), and sets `next` to the handle of the rest. 0 if it was evicted.
std::size_t load(std::uint64_t handle, char* out, std::uint64_t& next) noexcept {
  const Slot& slot = slots[handle % std::size(slots)];
  const std::uint64_t generation = handle / std::size(slots);
  if (slot.generation.load(std::memory_order_acquire) == generation) {
    const std::size_t size = std::min<std::size_t>(slot.size.load(std::memory_order_acquire), kSlotBytes);
    next = slot.next.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < (size + 7) / 8; ++i) {
      const std::uint64_t word = slot.words[i].load(std::memory_order_acquire);
      std::memcpy(out + 8 * i, &word, std::min<std::size_t>(8, size - 8 * i));
    }
    if (slot.generation.load(std::memory_order_acquire) == generation) return size;
  }
  count(counters.tracestate_evicted);
  next = 0;
  return 0;
}

}  // namespace

std::uint64_t store_headers(std::string_view tracestate, std::string_view baggage) noexcept {
  std::uint64_t rest = 0;
  const std::size_t ring = baggage.size() > kSlotBytes ? 1 : 0;
  while (!baggage.empty()) {  // the last part first, because a slot names the next one
    const std::size_t begin = (baggage.size() - 1) / kSlotBytes * kSlotBytes;
    rest = store(baggage.substr(begin), rest, ring);
    if (rest == 0) break;
    baggage = baggage.substr(0, begin);
  }
  if (!tracestate.empty()) return store(tracestate, rest, 0);
  return rest == 0 ? 0 : rest | kOnlyBaggage;
}

std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept {
  std::uint64_t rest = 0;
  const std::size_t size = has_tracestate(handle) ? load(handle, out, rest) : 0;
  out[size] = '\0';
  return size;
}

std::size_t load_baggage(std::uint64_t handle, char* out, std::size_t capacity) noexcept {
  char part[kSlotBytes];
  std::uint64_t rest = handle & ~kOnlyBaggage;
  if (has_tracestate(handle)) load(handle, part, rest);
  std::size_t size = 0;
  while (rest != 0) {
    const std::size_t more = load(rest, part, rest);
    if (more == 0 || more > capacity - size) return 0;
    std::memcpy(out + size, part, more);
    size += more;
  }
  return size;
}

}  // namespace nopspan::detail
