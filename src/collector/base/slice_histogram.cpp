// SPDX-License-Identifier: Apache-2.0
#include "base/slice_histogram.h"

#include <algorithm>
#include <utility>

namespace nopspan::collector {

std::uint32_t BlockStore::take() {
  if (!free_.empty()) {
    const std::uint32_t block = free_.back();
    free_.pop_back();
    at(block).fill(0);
    return block;
  }
  if (made_ == most_) return kNone;
  if (made_ % kSlab == 0) slabs_.push_back(std::make_unique<std::array<Block, kSlab>>());
  return static_cast<std::uint32_t>(made_++);
}

void SliceHistogram::make() {
  blocks_ = std::make_unique<Blocks>();
  blocks_->fill(BlockStore::kNone);
}

void SliceHistogram::clear(BlockStore& store) {
  if (!blocks_) return;
  for (std::uint32_t& block : *blocks_) {
    if (block != BlockStore::kNone) store.give_back(block);
    block = BlockStore::kNone;
  }
}

void SliceHistogram::take(BlockStore& store, SliceHistogram& from) {
  if (!from.blocks_) return;
  if (!blocks_) make();
  for (std::size_t octave = 0; octave < kOctaves; ++octave) {
    std::uint32_t &block = (*blocks_)[octave], &added = (*from.blocks_)[octave];
    if (block == BlockStore::kNone) {
      std::swap(block, added);
    } else if (added != BlockStore::kNone) {
      std::transform(store.at(block).begin(), store.at(block).end(), store.at(added).begin(), store.at(block).begin(),
                     std::plus<>());
    }
  }
  from.clear(store);
}

}  // namespace nopspan::collector
