// SPDX-License-Identifier: Apache-2.0
// Log-linear histograms of times. They can be merged.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace nopspan::collector {

// A bucket's width is its lower bound / 32, and buckets below 64 are exact. The middle of a bucket is therefore within
// 1.6 % of each value in it. Any two histograms are merged by adding their buckets. Not thread-safe.
class LogLinear {
 public:
  static constexpr unsigned kSubBits = 5;  // 32 buckets per octave
  static constexpr std::size_t kBuckets = (65 - kSubBits) << kSubBits;

  static constexpr std::size_t bucket_of(std::uint64_t value) {
    if (value < (2U << kSubBits)) return static_cast<std::size_t>(value);
    const unsigned exponent = 63U - static_cast<unsigned>(__builtin_clzll(value));
    return ((static_cast<std::size_t>(exponent) - kSubBits) << kSubBits) +
           static_cast<std::size_t>(value >> (exponent - kSubBits));
  }
  static constexpr std::uint64_t lower_bound_of(std::size_t bucket) {
    if (bucket < (2U << kSubBits)) return bucket;
    const auto exponent = static_cast<unsigned>(bucket >> kSubBits) - 1;
    return static_cast<std::uint64_t>((1U << kSubBits) | (bucket & ((1U << kSubBits) - 1))) << exponent;
  }
  // The value that represents all values in the bucket.
  static constexpr std::uint64_t middle_of(std::size_t bucket) {
    const std::uint64_t low = lower_bound_of(bucket);
    const std::uint64_t width = bucket < (2U << kSubBits) ? 1 : std::uint64_t{1} << ((bucket >> kSubBits) - 1);
    return low + (width - 1) / 2;
  }

  void add(std::uint64_t value, std::uint64_t times = 1);
  // Adds values of which only the bucket is known. sum(), minimum() and maximum() do not have them.
  void add_bucket(std::size_t bucket, std::uint64_t times);
  void merge(const LogLinear& other);

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }  // saturates at UINT64_MAX
  [[nodiscard]] std::uint64_t maximum() const { return maximum_; }
  [[nodiscard]] std::uint64_t minimum() const { return minimum_; }  // UINT64_MAX when empty
  // The nearest-rank quantile: the smallest value that at least `percent` % of the values do not exceed, within 1.6 %.
  // 0 if the histogram is empty.
  [[nodiscard]] std::uint64_t quantile(unsigned percent) const;
  // The rank of that value among `count` values in ascending order, counted from 1: ceil(count * percent / 100), and at
  // least 1. 0 if `count` is 0.
  static std::uint64_t rank_of(std::uint64_t count, unsigned percent);
  [[nodiscard]] std::uint64_t in_bucket(std::size_t bucket) const;

  // Octaves are allocated when they are first needed, because most histograms use only a few.
  using Octave = std::array<std::uint64_t, 1U << kSubBits>;
  // The buckets from (index << kSubBits) + 0 on. Null if they are all empty.
  [[nodiscard]] const Octave* octave(std::size_t index) const { return octaves_[index].get(); }

 private:
  void add_totals(std::uint64_t sum, std::uint64_t minimum, std::uint64_t maximum);

  std::array<std::unique_ptr<Octave>, (kBuckets >> kSubBits)> octaves_;
  std::uint64_t count_ = 0, sum_ = 0, maximum_ = 0, minimum_ = UINT64_MAX;
};

// {"unit": "ns" or another one, "sub_bits": 5, "buckets": [[lower bound, count], …], "count": …, "sum": …, "min": …,
// "max": …}. The buckets are the non-empty ones in ascending order. To merge two of these objects, add the counts of
// equal bounds, the counts and the sums, and use the smaller min and the larger max. An empty histogram has zeros.
nlohmann::ordered_json to_json(const LogLinear& histogram, const char* unit = "ns");

// Histograms of one second's values. There are very many of them and each is cleared soon, so they share one bounded
// store.

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
