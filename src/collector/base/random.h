// SPDX-License-Identifier: Apache-2.0
// Random numbers that other programs cannot know.
#pragma once

#include <cstdint>
#include <random>

namespace nopspan::collector {

// The seed of a hash, because hostile programs could choose ids with equal hashes.
inline std::uint64_t random_seed() {
  std::random_device random;
  return std::uint64_t{random()} << 32U | random();
}

}  // namespace nopspan::collector
