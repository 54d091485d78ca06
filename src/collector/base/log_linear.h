// SPDX-License-Identifier: Apache-2.0
// Log-linear histograms of times. They can be merged.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

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

}  // namespace nopspan::collector
