// SPDX-License-Identifier: Apache-2.0
#include "memory/slabs.h"

#include "base/kept_errno.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <iterator>
#include <new>

namespace nopspan::detail {

namespace {

// Stands before the bytes of a block.
struct alignas(16) Header {
  std::uint64_t mapped;  // the bytes of the mapping, if the block is one; otherwise 0
  std::uint32_t slab;
  std::uint16_t element;
  std::uint16_t size;  // the index in `sizes`
};

constexpr std::size_t kGiB = std::size_t{1} << 30U;
constexpr std::size_t k4 = std::size_t{4} << 10U, k16 = 4 * k4, k64 = 4 * k16, k256 = 4 * k64;
Slab table_4[kGiB / (64 * k4)], table_16[kGiB / (64 * k16)], table_64[kGiB / (16 * k64)], table_256[kGiB / (8 * k256)];

struct Size {
  std::size_t bytes;
  Slabs slabs;
};
Size sizes[] = {{k4, {table_4, 64, 64 * k4}},
                {k16, {table_16, 64, 64 * k16}},
                {k64, {table_64, 16, 16 * k64}},
                {k256, {table_256, 8, 8 * k256}}};

Block block_at(unsigned char* memory, std::size_t bytes, const Header& header) noexcept {
  new (memory) Header(header);
  return {memory + sizeof(Header), bytes - sizeof(Header)};
}

Block map_block(std::size_t bytes) noexcept {
  constexpr std::size_t kPage = k64;  // no page is larger
  if (bytes > SIZE_MAX - kPage) return {};
  const std::size_t mapped = (bytes + kPage - 1) & ~(kPage - 1);
  auto* const memory = static_cast<unsigned char*>(map_memory(mapped));
  if (memory == nullptr) return {};
  return block_at(memory, mapped, {mapped, 0, 0, 0});
}

}  // namespace

Block take_slab_block(std::size_t size) noexcept {
  for (std::size_t i = 0; i < std::size(sizes); ++i) {
    if (size > sizes[i].bytes - sizeof(Header)) continue;
    const Slabs::Claim claim = sizes[i].slabs.claim(1);
    if (claim.bits == 0) break;
    const auto element = static_cast<unsigned>(__builtin_ctzll(claim.bits));
    return block_at(sizes[i].slabs.memory(claim.slab) + element * sizes[i].bytes, sizes[i].bytes,
                    {0, claim.slab, static_cast<std::uint16_t>(element), static_cast<std::uint16_t>(i)});
  }
  return {};
}

Block take_block(std::size_t size) noexcept {
  if (size > SIZE_MAX - sizeof(Header)) return {};
  const Block block = take_slab_block(size);
  return block.bytes != nullptr ? block : map_block(size + sizeof(Header));
}

void give_back_block(unsigned char* bytes) noexcept {
  if (bytes == nullptr) return;
  unsigned char* const memory = bytes - sizeof(Header);
  const Header header = *reinterpret_cast<const Header*>(memory);
  if (header.mapped != 0) {
    unmap_memory(memory, header.mapped);
  } else {
    sizes[header.size].slabs.give_back({header.slab, std::uint64_t{1} << header.element});
  }
}

bool reserve_blocks(std::size_t size, std::size_t blocks) noexcept {
  for (Size& each : sizes) {
    if (size <= each.bytes - sizeof(Header)) return each.slabs.reserve(blocks);
  }
  return false;
}

void unmap_blocks() noexcept {
  for (Size& size : sizes) {
    if (size.slabs.is_idle()) size.slabs.unmap();
  }
}

namespace {

std::atomic<bool> maps{true};

// Advises the kernel about a slab. Keeps errno.
void advise(unsigned char* memory, std::size_t bytes, int advice) noexcept {
  if (!maps.load(std::memory_order_relaxed)) return;
  const KeptErrno kept_errno;
  syscall(SYS_madvise, memory, bytes, advice);
}

// The lowest `most` bits of `bits` that are set.
std::uint64_t lowest_bits(std::uint64_t bits, unsigned most) noexcept {
  std::uint64_t left = bits;
  for (; most > 0 && left != 0; --most) left &= left - 1;
  return bits & ~left;
}

}  // namespace

// A system call instead of mmap(), because an allocator may replace mmap() by a function that allocates.
void* map_memory(std::size_t bytes) noexcept {
  if (!maps.load(std::memory_order_relaxed)) return nullptr;
  const KeptErrno kept_errno;
  const long mapped =
      syscall(SYS_mmap, nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, std::size_t{0});
  return mapped == -1 ? nullptr : reinterpret_cast<void*>(mapped);  // NOLINT(performance-no-int-to-ptr): it is one
}

void unmap_memory(void* memory, std::size_t bytes) noexcept {
  if (!maps.load(std::memory_order_relaxed)) return;
  const KeptErrno kept_errno;
  syscall(SYS_munmap, memory, bytes);
}

void stop_mapping() noexcept { maps.store(false, std::memory_order_relaxed); }

bool Slabs::reserve(std::size_t elements) noexcept {
  const auto per_slab = static_cast<std::size_t>(__builtin_popcountll(all_));
  if (elements > per_slab * most_) return false;
  const auto slabs = static_cast<std::uint32_t>((elements + per_slab - 1) / per_slab);
  std::uint32_t kept = kept_.load(std::memory_order_relaxed);
  while (kept < slabs && !kept_.compare_exchange_weak(kept, slabs, std::memory_order_relaxed)) {
  }
  while (count_.load(std::memory_order_acquire) < slabs) {
    unsigned char* const mapped = map_slab();
    if (mapped == nullptr) return false;
    const Claim claimed = add(mapped, 1);
    if (claimed.bits == 0) {
      unmap_memory(mapped, bytes_);
      return false;
    }
    give_back(claimed);
  }
  return true;
}

Slabs::Claim Slabs::claim_in(std::uint32_t slab, unsigned most) noexcept {
  std::atomic<std::uint64_t>& free = table_[slab].free;
  std::uint64_t bits = free.load(std::memory_order_seq_cst);
  while (bits != 0) {
    const std::uint64_t taken = lowest_bits(bits, most);
    if (free.compare_exchange_weak(bits, bits & ~taken, std::memory_order_seq_cst, std::memory_order_relaxed)) {
      return {slab, taken};
    }
  }
  return {};
}

unsigned char* Slabs::map_slab() const noexcept {
  auto* const mapped = static_cast<unsigned char*>(map_memory(bytes_));
  // Otherwise the first small element may occupy 2 MiB.
  if (mapped != nullptr) advise(mapped, bytes_, MADV_NOHUGEPAGE);
  return mapped;
}

Slabs::Claim Slabs::add(unsigned char* mapped, unsigned most) noexcept {
  for (std::uint32_t slab = count_.load(std::memory_order_acquire); slab < most_; ++slab) {
    unsigned char* none = nullptr;
    if (!table_[slab].memory.compare_exchange_strong(none, mapped, std::memory_order_acq_rel)) continue;
    const std::uint64_t taken = lowest_bits(all_, most);
    table_[slab].free.store(all_ & ~taken, std::memory_order_release);
    std::uint32_t count = slab;
    while (count <= slab && !count_.compare_exchange_weak(count, slab + 1, std::memory_order_seq_cst)) {
    }
    return {slab, taken};
  }
  return {};
}

// A thousand threads that start at the same time may all find no element, and wait for the kernel to map a slab. The
// first slabs are enough for all of them.
Slabs::Claim Slabs::claim_new(unsigned most) noexcept {
  unsigned char* const mapped = map_slab();
  Claim claimed = search(0, most);
  if (mapped == nullptr) return claimed;
  if (claimed.bits == 0) {
    claimed = add(mapped, most);
    if (claimed.bits != 0) return claimed;
  }
  unmap_memory(mapped, bytes_);
  return claimed;
}

Slabs::Claim Slabs::search(std::uint32_t first, unsigned most) noexcept {
  const std::uint32_t count = count_.load(std::memory_order_acquire);
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::uint32_t slab = first + i < count ? first + i : first + i - count;
    const Claim claimed = claim_in(slab, most);
    if (claimed.bits == 0) continue;
    if (slab != lowest_.load(std::memory_order_relaxed)) lowest_.store(slab, std::memory_order_relaxed);
    return claimed;
  }
  return {};
}

Slabs::Claim Slabs::claim(unsigned most) noexcept {
  const std::uint32_t first = lowest_.load(std::memory_order_relaxed);
  if (first == most_) return {};
  Claim claimed = search(first, most);
  if (claimed.bits == 0 && count_.load(std::memory_order_acquire) < most_) claimed = claim_new(most);
  if (claimed.bits != 0 || count_.load(std::memory_order_acquire) < most_) return claimed;
  lowest_.store(most_, std::memory_order_seq_cst);  // so that the next calls do not search
  return search(0, most);  // finds what was given back just before, by a thread that did not see `most_`
}

void Slabs::note_free(std::uint32_t slab) noexcept {
  if (slab < lowest_.load(std::memory_order_seq_cst)) lowest_.store(slab, std::memory_order_relaxed);
}

void Slabs::give_back(Claim claim) noexcept {
  std::atomic<std::uint64_t>& free = table_[claim.slab].free;
  const std::uint64_t now = free.fetch_or(claim.bits, std::memory_order_seq_cst) | claim.bits;
  note_free(claim.slab);
  if (now == all_ && !readable_) note_idle(claim.slab);
}

bool Slabs::is_idle() const noexcept {
  const std::uint32_t count = count_.load(std::memory_order_seq_cst);
  for (std::uint32_t slab = 0; slab < count; ++slab) {
    if (table_[slab].free.load(std::memory_order_seq_cst) != all_) return false;
  }
  return true;
}

void Slabs::unmap() noexcept {
  for (std::uint32_t slab = count_.exchange(0); slab-- > 0;)
    unmap_memory(table_[slab].memory.exchange(nullptr), bytes_);
}

void Slabs::note_idle(std::uint32_t slab) noexcept {
  constexpr std::size_t kKept = std::size_t{2} << 20U;
  if (slab * bytes_ < kKept || slab < kept_.load(std::memory_order_relaxed)) return;
  const std::uint32_t before = idle_.exchange(slab + 1, std::memory_order_relaxed);
  if (before == 0 || before == slab + 1) return;
  Slab& other = table_[before - 1];
  std::uint64_t bits = all_;
  if (!other.free.compare_exchange_strong(bits, 0, std::memory_order_acquire, std::memory_order_relaxed)) return;
  advise(other.memory.load(std::memory_order_relaxed), bytes_, MADV_DONTNEED);
  other.free.store(all_, std::memory_order_seq_cst);
  note_free(before - 1);
}

}  // namespace nopspan::detail
