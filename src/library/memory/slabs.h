// SPDX-License-Identifier: Apache-2.0
// Memory for elements of one size. The library maps it itself, because malloc() is not safe in a signal handler, and
// keeps it.
//
// How it works: a slab is one mapping of up to 64 elements. Its word `free` has a bit for each element that is not in
// use. An element is claimed by clearing its bit with compare-and-swap, and given back by setting it. Slabs are in a
// table. A slab is mapped when no slab has a free element, and is then in the table for ever.
//
// Why it is safe: a bit is cleared or set by one atomic operation. So a signal handler or fork() cannot find it half
// done, and no function waits for another thread.
//
// Limits: the size of the table. If a slab becomes idle (all of its elements are free) while another one is idle, the
// other one's pages are returned to the kernel (MADV_DONTNEED). So a peak does not occupy memory for ever. The first 2
// MiB, and what was reserved, are never returned, because they are claimed first and a burst would fault them in again.
// The elements of a slab that was returned are zero-filled.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace nopspan::detail {

// Blocks of memory for what does not fit into a span's state or a thread's state: large fields, links, meters, the
// attributes of a record. They replace malloc() on the path of a span, where a signal handler may have interrupted the
// application's malloc().
//
// How it works: there are four sizes, from 4 KiB to 256 KiB, in slabs (slabs.h). A larger block is a mapping of its
// own. Blocks can be given back on any thread.
//
// Limits: 1 GiB for each of the four sizes. Beyond that, and for more than 256 KiB, every block is a mapping.
struct Block {
  unsigned char* bytes = nullptr;  // aligned to 16 bytes, not cleared; null: there is no memory
  std::size_t size = 0;            // at least the size that was asked for
};

Block take_block(std::size_t size) noexcept;
// The same, but never a mapping of its own: the block stays mapped after it was given back, so others may read it.
Block take_slab_block(std::size_t size) noexcept;
void give_back_block(unsigned char* bytes) noexcept;  // null is allowed

// Maps memory for so many blocks of up to `size` bytes, at most 256 KiB less 16; see Slabs::reserve().
bool reserve_blocks(std::size_t size, std::size_t blocks) noexcept;

// Unmaps the slabs of all sizes that have no block in use. No other thread may use blocks meanwhile or afterwards.
void unmap_blocks() noexcept;

// Maps memory that is filled with zeroes. Null if the kernel refuses, or after stop_mapping(). Keeps errno.
void* map_memory(std::size_t bytes) noexcept;
void unmap_memory(void* memory, std::size_t bytes) noexcept;

// From now on no memory is mapped, unmapped or returned to the kernel, because a sandbox forbids these system calls.
void stop_mapping() noexcept;

struct Slab {
  std::atomic<unsigned char*> memory;  // null: this place of the table is not used yet
  std::atomic<std::uint64_t> free;     // bit i is set: element i is not in use
};

class Slabs {
 public:
  // Elements of one slab that were claimed together.
  struct Claim {
    std::uint32_t slab = 0;
    std::uint64_t bits = 0;  // 0: there is no memory, or the table is full
  };

  // A slab has `elements` elements, at most 64, in `bytes` bytes. If `readable` is true, no page is ever returned to
  // the kernel, because others read elements that are not in use.
  template <std::size_t N>
  constexpr Slabs(Slab (&table)[N], unsigned elements, std::size_t bytes, bool readable = false) noexcept
      : table_(table),
        most_(N),
        bytes_(bytes),
        readable_(readable),
        all_(elements == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << elements) - 1) {}

  // Claims at least one element, and up to `most` if one slab has that many.
  Claim claim(unsigned most) noexcept;
  void give_back(Claim claim) noexcept;  // a copy, because the claim may be in memory that another thread owns next

  // The lowest element of a claim, which is a T.
  template <class T>
  [[nodiscard]] T* element(const Claim& claim) const noexcept {
    return reinterpret_cast<T*>(memory(claim.slab)) + __builtin_ctzll(claim.bits);
  }
  // Whether the table is full and no element was free at the last claim. If a claim fails otherwise, memory is missing.
  [[nodiscard]] bool is_full() const noexcept { return lowest_.load(std::memory_order_relaxed) == most_; }
  // Maps slabs until all of them together have so many elements, and keeps the pages of these. False if there is not so
  // much memory.
  bool reserve(std::size_t elements) noexcept;

  [[nodiscard]] bool is_unused() const noexcept { return count_.load(std::memory_order_relaxed) == 0; }
  [[nodiscard]] bool is_idle() const noexcept;
  // Unmaps all slabs. No element may be in use, and no other thread may use this object meanwhile or afterwards.
  void unmap() noexcept;

  [[nodiscard]] unsigned char* memory(std::uint32_t slab) const noexcept {
    return table_[slab].memory.load(std::memory_order_acquire);
  }

  // Calls `each(T&, Claim)` for the elements that are in use, each of which is a T. Other threads may claim and give
  // back elements meanwhile.
  template <class T, class Each>
  void for_each_used(const Each& each) const {
    const std::uint32_t count = count_.load(std::memory_order_seq_cst);
    for (std::uint32_t slab = 0; slab < count; ++slab) {
      unsigned char* const at = memory(slab);
      std::uint64_t used = all_ & ~table_[slab].free.load(std::memory_order_seq_cst);
      for (; at != nullptr && used != 0; used &= used - 1) {
        each(reinterpret_cast<T*>(at)[__builtin_ctzll(used)], Claim{slab, used & ~(used - 1)});
      }
    }
  }

 private:
  Claim claim_in(std::uint32_t slab, unsigned most) noexcept;
  [[nodiscard]] unsigned char* map_slab() const noexcept;  // null if there is no memory
  // Puts a mapped slab into the table, and claims elements of it. None if the table is full.
  Claim add(unsigned char* mapped, unsigned most) noexcept;
  Claim claim_new(unsigned most) noexcept;
  Claim search(std::uint32_t first, unsigned most) noexcept;  // from the slab `first` on, in all slabs
  void note_free(std::uint32_t slab) noexcept;
  void note_idle(std::uint32_t slab) noexcept;

  Slab* table_;
  std::uint32_t most_;
  std::size_t bytes_;
  bool readable_;
  std::uint64_t all_;                     // the bits of all elements of a slab
  std::atomic<std::uint32_t> kept_{0};    // the slabs that were reserved: their pages are not returned
  std::atomic<std::uint32_t> count_{0};   // the places of the table that are used
  std::atomic<std::uint32_t> lowest_{0};  // a hint: the lowest slab that may have a free element; `most_`: none has
  std::atomic<std::uint32_t> idle_{0};    // the number of the slab that became idle last, plus one
};

}  // namespace nopspan::detail
