// SPDX-License-Identifier: Apache-2.0
// The buckets of a native histogram of Prometheus, which OpenTelemetry calls an exponential histogram.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace nopspan::collector {

// Bucket i has the values in (2^((i - 1) / 2^schema), 2^(i / 2^schema)]. OpenTelemetry numbers the same bucket i - 1.
class NativeBuckets {
 public:
  static constexpr int kSchema = 3;
  // If a histogram needs more buckets, its schema is lowered by one, which halves their number.
  static constexpr std::size_t kMost = 160;
  // Smaller values, zero and negative ones are in the zero bucket. This is what Prometheus' client libraries use.
  static constexpr double kZeroThreshold = 0x1p-128;

  void add(double value, std::uint64_t times);

  [[nodiscard]] bool empty() const { return zero_count_ == 0 && buckets_.empty(); }
  [[nodiscard]] int schema() const { return schema_; }
  [[nodiscard]] std::uint64_t zero_count() const { return zero_count_; }
  // The buckets that are not empty: number and count, ascending.
  [[nodiscard]] const std::vector<std::pair<std::int32_t, std::uint64_t>>& buckets() const { return buckets_; }

 private:
  void halve();

  int schema_ = kSchema;
  std::uint64_t zero_count_ = 0;
  std::vector<std::pair<std::int32_t, std::uint64_t>> buckets_;
};

}  // namespace nopspan::collector
