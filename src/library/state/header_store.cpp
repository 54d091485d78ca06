// SPDX-License-Identifier: Apache-2.0
#include "state/header_store.h"

#include "base/counters.h"
#include "state/context_stack.h"
#include "thread/thread_state.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <iterator>

namespace nopspan::detail {
namespace {

constexpr std::size_t kRings = 2;
constexpr std::uint64_t kSlots = 32768;  // of a ring
constexpr std::uint64_t kSegment = 4096;
constexpr std::size_t kSlotBytes = 104;
constexpr std::size_t kMostOfFirstRing = 512;
constexpr std::uint64_t kPause = 32;
constexpr std::uint64_t kNoSlot = kRings * kSlots;

// A part of a text, protected by a seqlock. A writer makes the generation odd, writes, and makes it even again. A
// reader copies the words, and uses the copy only if the generation was the same before and after. Words are atomic, so
// the race is not undefined behaviour. Nobody ever waits: a writer skips a slot that is being written, so fork() and
// signals cannot leave a lock behind.
struct alignas(64) Slot {
  std::atomic<std::uint64_t> generation;  // odd while it is written
  std::atomic<std::uint64_t> next;        // the handle of the rest, or 0
  std::atomic<std::uint32_t> kept_until;  // the number of the segment that must not reuse it, plus one
  std::atomic<std::uint16_t> size;        // of this part
  std::atomic<std::uint16_t> tracestate;  // the bytes of the whole text that are a tracestate
  std::atomic<std::uint64_t> words[kSlotBytes / 8];
};
static_assert(sizeof(Slot) == 128);
Slot slots[kRings * kSlots];

struct Ring {
  std::atomic<std::uint64_t> tickets;  // each is a slot that was offered to a writer
  std::atomic<std::uint32_t> marked;   // the number of the segment whose slots were marked last, plus one
  // Each mark is charged with kPause times its cost. This is the time at which all marks so far are paid.
  std::atomic<std::uint64_t> marked_until_ns;
  std::atomic<std::uint64_t> mark_ns;  // the cost of the last one, and of looking at its segment
};
Ring rings[kRings];

// The number of a ticket's segment. The slots of a ring have been used once after kSlots / kSegment segments.
std::uint32_t segment_of(std::uint64_t ticket) noexcept { return static_cast<std::uint32_t>(ticket / kSegment); }
bool is_of_segment(std::uint64_t number, std::size_t ring, std::uint32_t segment) noexcept {
  return number / kSlots == ring && number % kSlots / kSegment == segment % (kSlots / kSegment);
}

void raise(std::atomic<std::uint32_t>& value, std::uint32_t to) noexcept {
  std::uint32_t before = value.load(std::memory_order_relaxed);
  while (before < to && !value.compare_exchange_weak(before, to, std::memory_order_relaxed)) {
  }
}

// Marks the slots of a segment that contexts in scopes name, before they are offered again. If several threads do this
// at a time, they do the same.
__attribute__((noinline)) void mark_kept(std::size_t ring, std::uint32_t segment) noexcept {
  // The cost is what was looked at, not the duration: a thread that is preempted here must not keep others from
  // storing.
  constexpr std::uint64_t kLookNs = 20'000, kLookAtOneNs = 25;
  std::uint64_t cost_ns = kLookNs;
  for_each_current_headers([&](std::uint64_t handle) {
    cost_ns += kLookAtOneNs;
    for (handle &= ~kOnlyBaggage; handle != 0; cost_ns += kLookAtOneNs) {
      Slot& slot = slots[handle % std::size(slots)];
      const std::uint64_t next = slot.next.load(std::memory_order_acquire);
      if (slot.generation.load(std::memory_order_acquire) != handle / std::size(slots)) return;
      if (is_of_segment(handle % std::size(slots), ring, segment)) raise(slot.kept_until, segment + 1);
      handle = next;
    }
  });
  raise(rings[ring].marked, segment + 1);
  std::atomic<std::uint64_t>& until_ns = rings[ring].marked_until_ns;
  until_ns = std::max(until_ns.load(std::memory_order_relaxed), monotonic_ns()) + kPause * cost_ns;
  rings[ring].mark_ns.store(cost_ns, std::memory_order_relaxed);
}

// The tracestate and the baggage, one after the other.
struct HeaderText {
  std::string_view first, second;

  [[nodiscard]] std::size_t size() const noexcept { return first.size() + second.size(); }
  void copy(std::size_t at, std::size_t bytes, char* out) const noexcept {
    const std::size_t of_first = at < first.size() ? std::min(bytes, first.size() - at) : 0;
    if (of_first > 0) std::memcpy(out, first.data() + at, of_first);
    if (of_first < bytes) std::memcpy(out + of_first, second.data() + (at + of_first - first.size()), bytes - of_first);
  }
};

// Whether the slots of this ticket's segment must be marked first.
bool is_first_of_segment(const Ring& ring, std::uint64_t ticket) noexcept {
  return ticket >= kSlots && ring.marked.load(std::memory_order_relaxed) <= segment_of(ticket);
}

bool may_mark(const Ring& ring) noexcept {
  constexpr std::uint64_t kBurst = kSlots / kSegment;
  const std::uint64_t burst_ns = kBurst * kPause * ring.mark_ns.load(std::memory_order_relaxed);
  return ring.marked_until_ns.load(std::memory_order_relaxed) <= monotonic_ns() + burst_ns;
}

// Takes a slot that no scope names and that no other thread is writing. Returns its number, or that of no slot.
std::uint64_t take_slot(std::size_t number) noexcept {
  Ring& ring = rings[number];
  for (std::uint64_t tries = 0; tries < kSlots; ++tries) {
    if (is_first_of_segment(ring, ring.tickets.load(std::memory_order_relaxed)) && !may_mark(ring)) break;
    const std::uint64_t ticket = ring.tickets.fetch_add(1, std::memory_order_relaxed);
    const std::uint32_t segment = segment_of(ticket);
    if (is_first_of_segment(ring, ticket)) mark_kept(number, segment);
    const std::uint64_t slot = number * kSlots + ticket % kSlots;
    if (slots[slot].kept_until.load(std::memory_order_relaxed) <= segment) return slot;
  }
  return kNoSlot;
}

// Stores a part of a text. Returns 0 (counted) if there is no slot for it.
std::uint64_t store(const HeaderText& text, std::size_t at, std::uint64_t next, std::size_t ring) noexcept {
  for (std::uint64_t number = 0, tries = 0; tries < kSlots && (number = take_slot(ring)) != kNoSlot; ++tries) {
    Slot& slot = slots[number];
    std::uint64_t generation = slot.generation.load(std::memory_order_relaxed);
    if ((generation & 1U) != 0) continue;  // another thread is writing, or was when this process was forked
    if (!slot.generation.compare_exchange_strong(generation, generation + 1, std::memory_order_acquire)) continue;
    std::atomic_thread_fence(std::memory_order_release);
    char part[kSlotBytes];
    const std::size_t size = std::min(kSlotBytes, text.size() - at);
    text.copy(at, size, part);
    slot.size.store(static_cast<std::uint16_t>(size), std::memory_order_relaxed);
    slot.tracestate.store(static_cast<std::uint16_t>(text.first.size()), std::memory_order_relaxed);
    slot.next.store(next, std::memory_order_relaxed);
    for (std::size_t i = 0; i < (size + 7) / 8; ++i) {
      std::uint64_t word = 0;
      std::memcpy(&word, part + 8 * i, std::min<std::size_t>(8, size - 8 * i));
      slot.words[i].store(word, std::memory_order_relaxed);
    }
    slot.generation.store(generation + 2, std::memory_order_release);
    return (generation + 2) * std::size(slots) + number;
  }
  count(counters.tracestate_evicted);
  return 0;
}

struct SlotText {
  char text[kSlotBytes];
  std::size_t size = 0;  // 0 if it was evicted
  std::size_t tracestate = 0;
};

// Copies a part of a text, and sets the handle to that of the rest.
bool load(std::uint64_t& handle, SlotText& part) noexcept {
  const Slot& slot = slots[handle % std::size(slots)];
  const std::uint64_t generation = handle / std::size(slots);
  if (slot.generation.load(std::memory_order_acquire) == generation) {
    part.size = std::min<std::size_t>(slot.size.load(std::memory_order_acquire), kSlotBytes);
    part.tracestate = std::min<std::size_t>(slot.tracestate.load(std::memory_order_acquire), kMaxTracestateBytes);
    handle = slot.next.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < (part.size + 7) / 8; ++i) {
      const std::uint64_t word = slot.words[i].load(std::memory_order_acquire);
      std::memcpy(part.text + 8 * i, &word, std::min<std::size_t>(8, part.size - 8 * i));
    }
    if (slot.generation.load(std::memory_order_acquire) == generation) return true;
  }
  count(counters.tracestate_evicted);
  return false;
}

}  // namespace

std::uint64_t store_headers(std::string_view tracestate, std::string_view baggage) noexcept {
  const HeaderText text{tracestate, baggage};
  const std::size_t ring = text.size() > kMostOfFirstRing ? 1 : 0;
  std::uint64_t handle = 0;
  for (std::size_t end = text.size(); end > 0;) {  // the last part first, because a slot names the next one
    const std::size_t at = (end - 1) / kSlotBytes * kSlotBytes;
    handle = store(text, at, handle, ring);
    if (handle == 0) return 0;
    end = at;
  }
  return handle == 0 || !tracestate.empty() ? handle : handle | kOnlyBaggage;
}

std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept {
  SlotText part;
  std::size_t size = 0;
  std::size_t all = has_tracestate(handle) ? 1 : 0;  // it is not known yet
  while (size < all) {
    if (handle == 0 || !load(handle, part) || part.size == 0) {
      size = 0;
      break;
    }
    all = part.tracestate;
    const std::size_t more = std::min(part.size, all - std::min(size, all));
    std::memcpy(out + size, part.text, more);
    size += more;
  }
  out[size] = '\0';
  return size;
}

std::size_t load_baggage(std::uint64_t handle, char* out, std::size_t capacity) noexcept {
  SlotText part;
  std::size_t skipped = 0;
  std::size_t size = 0;
  for (handle &= ~kOnlyBaggage; handle != 0;) {
    if (!load(handle, part)) return 0;
    const std::size_t skip = std::min(part.size, part.tracestate - std::min(skipped, part.tracestate));
    const std::size_t more = part.size - skip;
    if (more > capacity - size) return 0;
    std::memcpy(out + size, part.text + skip, more);
    skipped += skip;
    size += more;
  }
  return size;
}

}  // namespace nopspan::detail
