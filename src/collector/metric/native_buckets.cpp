// SPDX-License-Identifier: Apache-2.0
#include "metric/native_buckets.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace nopspan::collector {
namespace {

// 2^(i / 8) / 2, the bounds within [0.5, 1).
constexpr std::array<double, 8> kBounds = {0.5,
                                           0.5452538663326288,
                                           0.5946035575013605,
                                           0.6484197773255048,
                                           0.7071067811865475,
                                           0.7711054127039704,
                                           0.8408964152537144,
                                           0.9170040432046711};
static_assert(kBounds.size() == 1U << NativeBuckets::kSchema);

std::int32_t bucket_of(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  const auto within = std::lower_bound(kBounds.begin(), kBounds.end(), fraction) - kBounds.begin();
  return static_cast<std::int32_t>(within) + (exponent - 1) * static_cast<std::int32_t>(kBounds.size());
}

// The number of a bucket in the next lower schema. The shift rounds down, also below zero.
std::int32_t halved(std::int32_t bucket) { return (bucket + 1) >> 1; }

}  // namespace

void NativeBuckets::add(double value, std::uint64_t times) {
  if (!(value > kZeroThreshold)) {
    zero_count_ += times;
    return;
  }
  std::int32_t number = bucket_of(value);
  for (int schema = kSchema; schema > schema_; --schema) number = halved(number);
  const auto at = std::lower_bound(buckets_.begin(), buckets_.end(), number,
                                   [](const auto& bucket, std::int32_t wanted) { return bucket.first < wanted; });
  if (at != buckets_.end() && at->first == number) {
    at->second += times;
    return;
  }
  buckets_.insert(at, {number, times});
  while (buckets_.size() > kMost) halve();
}

void NativeBuckets::halve() {
  --schema_;
  std::vector<std::pair<std::int32_t, std::uint64_t>> joined;
  for (const auto& [number, count] : buckets_) {
    if (joined.empty() || joined.back().first != halved(number)) joined.emplace_back(halved(number), 0);
    joined.back().second += count;
  }
  buckets_ = std::move(joined);
}

}  // namespace nopspan::collector
