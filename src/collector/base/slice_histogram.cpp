// SPDX-License-Identifier: Apache-2.0
#include "base/slice_histogram.h"

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

}  // namespace nopspan::collector
