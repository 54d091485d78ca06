// SPDX-License-Identifier: Apache-2.0
// Histograms of one second's values. There are very many of them and each is cleared soon, so they share one bounded
// store.
#pragma once

#include "base/log_linear.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nopspan::collector {

// A store of blocks; a block has the buckets of one octave. The store has a fixed maximum, so the values that processes
// send cannot make it grow beyond that. Returned blocks are used again.
class BlockStore {
 public:
  using Block = std::array<std::uint32_t, std::size_t{1} << LogLinear::kSubBits>;
  static constexpr std::uint32_t kNone = UINT32_MAX;

  explicit BlockStore(std::size_t most_blocks) : most_(most_blocks) {}

  std::uint32_t take();  // zero-filled; kNone if none is left
  void give_back(std::uint32_t block) { free_.push_back(block); }
  Block& at(std::uint32_t block) { return (*slabs_[block / kSlab])[block % kSlab]; }
  [[nodiscard]] const Block& at(std::uint32_t block) const { return (*slabs_[block / kSlab])[block % kSlab]; }

 private:
  static constexpr std::size_t kSlab = 512;  // 64 KiB
  std::vector<std::unique_ptr<std::array<Block, kSlab>>> slabs_;
  std::vector<std::uint32_t> free_;
  std::size_t made_ = 0, most_;
};

// Has the same buckets as LogLinear. The owner must clear it before destroying it, because only clear() returns its
// blocks to the store.
class SliceHistogram {
 public:
  // Returns false if the store is exhausted; the value is then not added.
  bool add(BlockStore& store, std::uint64_t value) {
    const std::size_t bucket = LogLinear::bucket_of(value);
    if (!blocks_) make();
    std::uint32_t& block = (*blocks_)[bucket >> LogLinear::kSubBits];
    if (block == BlockStore::kNone && (block = store.take()) == BlockStore::kNone) return false;
    ++store.at(block)[bucket % std::tuple_size_v<BlockStore::Block>];
    return true;
  }
  void clear(BlockStore& store);
  // Adds the values of `from` and clears it.
  void take(BlockStore& store, SliceHistogram& from);

  // Calls `visit(octave, block)` for each octave that has values, in ascending order.
  template <typename Visit>
  void for_each(const BlockStore& store, Visit visit) const {
    if (!blocks_) return;
    for (std::size_t octave = 0; octave < kOctaves; ++octave) {
      if ((*blocks_)[octave] != BlockStore::kNone) visit(octave, store.at((*blocks_)[octave]));
    }
  }

 private:
  static constexpr std::size_t kOctaves = LogLinear::kBuckets >> LogLinear::kSubBits;
  using Blocks = std::array<std::uint32_t, kOctaves>;
  void make();

  std::unique_ptr<Blocks> blocks_;  // clear() keeps this array
};

}  // namespace nopspan::collector
