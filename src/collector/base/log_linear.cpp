// SPDX-License-Identifier: Apache-2.0
#include "base/log_linear.h"

#include "base/saturating.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <utility>

namespace nopspan::collector {

namespace {

constexpr std::size_t kInOctave = std::size_t{1} << LogLinear::kSubBits;

std::uint64_t saturating_product(std::uint64_t a, std::uint64_t b) {
  std::uint64_t product;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

}  // namespace

void LogLinear::add_bucket(std::size_t bucket, std::uint64_t times) {
  if (bucket >= kBuckets || times == 0) return;
  std::unique_ptr<Octave>& octave = octaves_[bucket >> kSubBits];
  if (!octave) octave = std::make_unique<Octave>();
  (*octave)[bucket % kInOctave] += times;
  count_ += times;
}

void LogLinear::add(std::uint64_t value, std::uint64_t times) {
  if (times == 0) return;
  add_bucket(bucket_of(value), times);
  add_totals(saturating_product(value, times), value, value);
}

void LogLinear::add_totals(std::uint64_t sum, std::uint64_t minimum, std::uint64_t maximum) {
  sum_ = saturating_sum(sum_, sum);
  minimum_ = std::min(minimum_, minimum);
  maximum_ = std::max(maximum_, maximum);
}

void LogLinear::merge(const LogLinear& other) {
  for (std::size_t index = 0; index < octaves_.size(); ++index) {
    if (!other.octaves_[index]) continue;
    for (std::size_t i = 0; i < kInOctave; ++i) add_bucket((index << kSubBits) + i, (*other.octaves_[index])[i]);
  }
  add_totals(other.sum_, other.minimum_, other.maximum_);
}

// Uses integers, because 0.9 is not exact as a double and 0.9 * 10 could exceed 9. Splitting `count` by 100 avoids an
// overflow.
std::uint64_t LogLinear::rank_of(std::uint64_t count, unsigned percent) {
  percent = std::min(percent, 100U);
  const std::uint64_t rank = count / 100 * percent + (count % 100 * percent + 99) / 100;
  return std::max(rank, std::min<std::uint64_t>(count, 1));
}

std::uint64_t LogLinear::quantile(unsigned percent) const {
  if (count_ == 0) return 0;
  const std::uint64_t rank = rank_of(count_, percent);
  std::uint64_t before = 0;
  for (std::size_t bucket = 0; bucket < kBuckets; ++bucket) {
    if (!octaves_[bucket >> kSubBits]) {
      bucket += kInOctave - 1;  // the loop's ++ moves to the next octave
      continue;
    }
    before += (*octaves_[bucket >> kSubBits])[bucket % kInOctave];
    if (before < rank) continue;
    // The extremes are exact. The middle of their bucket may lie outside them.
    const bool has_maximum = bucket == bucket_of(maximum_), has_minimum = bucket == bucket_of(minimum_);
    if (has_minimum && rank == 1) return minimum_;
    if (has_maximum && rank == count_) return maximum_;
    const std::uint64_t middle = has_minimum ? std::max(middle_of(bucket), minimum_) : middle_of(bucket);
    return has_maximum ? std::min(middle, maximum_) : middle;
  }
  return maximum_;
}

std::uint64_t LogLinear::in_bucket(std::size_t bucket) const {
  if (bucket >= kBuckets || !octaves_[bucket >> kSubBits]) return 0;
  return (*octaves_[bucket >> kSubBits])[bucket % kInOctave];
}

nlohmann::ordered_json to_json(const LogLinear& histogram, const char* unit) {
  nlohmann::ordered_json buckets = nlohmann::ordered_json::array();
  for (std::size_t bucket = 0; bucket < LogLinear::kBuckets; ++bucket) {
    const std::uint64_t times = histogram.in_bucket(bucket);
    if (times != 0) buckets.push_back({LogLinear::lower_bound_of(bucket), times});
  }
  const bool none = histogram.count() == 0;
  return {{"unit", unit},
          {"sub_bits", LogLinear::kSubBits},
          {"buckets", std::move(buckets)},
          {"count", histogram.count()},
          {"sum", histogram.sum()},
          {"min", none ? 0 : histogram.minimum()},
          {"max", histogram.maximum()}};
}

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
