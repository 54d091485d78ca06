// SPDX-License-Identifier: Apache-2.0
// Sums and conversions that saturate instead of wrapping around. Real numbers never get that large, but a process may
// claim any.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

namespace nopspan::collector {

inline std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

// The whole part of a number, within the limits of an unsigned type. 0 if it is negative or not a number.
template <class Unsigned = std::uint64_t>
Unsigned saturated(double number) {
  static_assert(!std::numeric_limits<Unsigned>::is_signed);
  constexpr Unsigned kMost = std::numeric_limits<Unsigned>::max();
  if (!(number > 0)) return 0;
  // For 64 bits, the limit as a double is 2^64, which is beyond the type.
  return number >= static_cast<double>(kMost) ? kMost : static_cast<Unsigned>(number);
}

// The nearest whole number, within the limits of the type. 0 if it is not a number.
inline std::int64_t rounded(double number) {
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  const auto size = static_cast<std::int64_t>(std::min(saturated(std::abs(number) + 0.5), kMost));
  return number < 0 ? -size : size;
}

}  // namespace nopspan::collector
