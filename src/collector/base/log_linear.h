// SPDX-License-Identifier: Apache-2.0
// Log-linear histograms of times, which can be merged.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace nopspan::collector {

// Buckets are as wide as their lower bound / 32 (below 64 exact), so that the middle of one is within 1.6 % of every
// value in it. Two histograms of any origin are merged by adding their buckets.
class LogLinear {
 public:
  static constexpr unsigned kSubBits = 5;  // 32 buckets an octave
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
  // The value that stands for all of the bucket's.
  static constexpr std::uint64_t middle_of(std::size_t bucket) {
    const std::uint64_t low = lower_bound_of(bucket);
    const std::uint64_t width = bucket < (2U << kSubBits) ? 1 : std::uint64_t{1} << ((bucket >> kSubBits) - 1);
    return low + (width - 1) / 2;
  }

  void add(std::uint64_t value, std::uint64_t times = 1);
  // For those who have only buckets: the sum and the extremes come by add_totals(). Without them quantiles are right,
  // and sum(), minimum() and maximum() are not.
  void add_bucket(std::size_t bucket, std::uint64_t times);
  void add_totals(std::uint64_t sum, std::uint64_t minimum, std::uint64_t maximum);
  void merge(const LogLinear& other);
  void clear();

  [[nodiscard]] std::uint64_t count() const { return count_; }
  [[nodiscard]] std::uint64_t sum() const { return sum_; }  // UINT64_MAX: at least so much
  [[nodiscard]] std::uint64_t maximum() const { return maximum_; }
  [[nodiscard]] std::uint64_t minimum() const { return minimum_; }  // UINT64_MAX when empty
  // By the nearest rank: the least value that so many percent of all do not exceed, within 1.6 %; 0 when empty.
  [[nodiscard]] std::uint64_t quantile(unsigned percent) const;
  // Which value, counted from 1 in ascending order, that is of `count`: ceil(count * percent / 100), and at least the
  // first. 0 of none.
  static std::uint64_t rank_of(std::uint64_t count, unsigned percent);
  [[nodiscard]] std::uint64_t in_bucket(std::size_t bucket) const;

  // Octaves are made when first needed: most histograms use a few.
  using Octave = std::array<std::uint64_t, 1U << kSubBits>;
  // The buckets (index << kSubBits) + 0 and on; null: nothing is in them.
  [[nodiscard]] const Octave* octave(std::size_t index) const { return octaves_[index].get(); }

 private:
  std::array<std::unique_ptr<Octave>, (kBuckets >> kSubBits)> octaves_;
  std::uint64_t count_ = 0, sum_ = 0, maximum_ = 0, minimum_ = UINT64_MAX;
};

// {"unit": "ns", "sub_bits": 5, "buckets": [[lower bound, count], …], "count": …, "sum": …, "min": …, "max": …}: the
// buckets that are not empty, ascending. Whoever has two of these merges them by adding the counts of the same bounds,
// counts and sums, and taking the lesser min and the greater max. An empty one has zeros.
nlohmann::ordered_json to_json(const LogLinear& histogram);
// Throws Failure with kUsageError if it is no such object.
LogLinear log_linear_from_json(const nlohmann::ordered_json& json);

}  // namespace nopspan::collector
