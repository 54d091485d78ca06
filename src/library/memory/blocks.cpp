// SPDX-License-Identifier: Apache-2.0
#include "memory/blocks.h"

#include "memory/slabs.h"

#include <cstdint>
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

}  // namespace nopspan::detail
