// SPDX-License-Identifier: Apache-2.0
// Blocks of memory for what does not fit into a span's state or a thread's state: large fields, links, meters, the
// attributes of a record. They replace malloc() on the path of a span, where a signal handler may have interrupted the
// application's malloc().
//
// How it works: there are four sizes, from 4 KiB to 256 KiB, in slabs (slabs.h). A larger block is a mapping of its
// own. Blocks can be given back on any thread.
//
// Limits: 1 GiB for each of the four sizes. Beyond that, and for more than 256 KiB, every block is a mapping.
#pragma once

#include <cstddef>

namespace nopspan::detail {

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

}  // namespace nopspan::detail
