// SPDX-License-Identifier: Apache-2.0
// A hash table of trace ids. A map with a node per id takes an allocation and several cache misses for each request.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Also spreads ids of which only a few bits differ, such as those of a counter. Without the seed, hostile processes
// could choose ids with equal hashes.
inline std::uint64_t hash_of(const TraceId& id, std::uint64_t seed) {
  __extension__ using Wide = unsigned __int128;
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;
  std::uint64_t halves[2];
  std::memcpy(halves, id.bytes, sizeof(halves));
  const Wide product = static_cast<Wide>(halves[0] ^ seed) * (halves[1] ^ (seed * kOdd));
  const std::uint64_t hash = (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U)) * kOdd;
  return hash ^ (hash >> 32U);
}

// Open addressing with linear probing. At most two thirds of the slots are used. It does not shrink.
template <class Value>
class TraceIdTable {
 public:
  // `seed` is random.
  explicit TraceIdTable(std::uint64_t seed) : seed_(seed), slots_(64) {}

  // Null if the id is not known. Valid until the next insert() or erase().
  Value* find(const TraceId& id) {
    Slot& slot = slots_[place_of(id)];
    return slot.id.empty() ? nullptr : &slot.value;
  }
  // Adds the id, which must not be empty, unless it is known. Valid as the result of find().
  Value& insert(const TraceId& id) {
    std::size_t place = place_of(id);
    if (slots_[place].id.empty()) {
      if (3 * ++size_ > 2 * slots_.size()) {
        grow();
        place = place_of(id);
      }
      slots_[place].id = id;
    }
    return slots_[place].value;
  }
  void erase(const TraceId& id) {
    std::size_t gap = place_of(id);
    if (slots_[gap].id.empty()) return;
    --size_;
    // Moves the ids behind it that a search would no longer reach.
    for (std::size_t next = after(gap); !slots_[next].id.empty(); next = after(next)) {
      const std::size_t from_home = (next - home_of(slots_[next].id)) & mask(), from_gap = (next - gap) & mask();
      if (from_home < from_gap) continue;
      slots_[gap] = slots_[next];
      gap = next;
    }
    slots_[gap] = {};
  }

 private:
  struct Slot {
    TraceId id;  // empty if the slot is free
    Value value{};
  };

  [[nodiscard]] std::size_t mask() const { return slots_.size() - 1; }
  [[nodiscard]] std::size_t after(std::size_t place) const { return (place + 1) & mask(); }
  [[nodiscard]] std::size_t home_of(const TraceId& id) const { return hash_of(id, seed_) & mask(); }
  // The slot of the id, or the free slot where it belongs.
  [[nodiscard]] std::size_t place_of(const TraceId& id) const {
    std::size_t place = home_of(id);
    while (!slots_[place].id.empty() && slots_[place].id != id) place = after(place);
    return place;
  }
  void grow() {
    const std::vector<Slot> old = std::exchange(slots_, std::vector<Slot>(2 * slots_.size()));
    for (const Slot& slot : old) {
      if (!slot.id.empty()) slots_[place_of(slot.id)] = slot;
    }
  }

  std::uint64_t seed_;
  std::vector<Slot> slots_;  // a power of two
  std::size_t size_ = 0;
};

}  // namespace nopspan::collector
