// SPDX-License-Identifier: Apache-2.0
// Sums that saturate instead of wrapping around. Real numbers never get that large, but a process may claim any.
#pragma once

#include <cstdint>

namespace nopspan::collector {

inline std::uint64_t saturating_sum(std::uint64_t a, std::uint64_t b) {
  std::uint64_t sum;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

}  // namespace nopspan::collector
