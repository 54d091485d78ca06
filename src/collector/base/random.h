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

// Also spreads numbers of which only a few bits differ, such as those of a counter. Without the seed, which is random,
// hostile processes could choose ids with equal hashes.
inline std::uint64_t hash_of(std::uint64_t first, std::uint64_t second, std::uint64_t seed) {
  __extension__ using Wide = unsigned __int128;
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15U;
  const Wide product = static_cast<Wide>(first ^ seed) * (second ^ (seed * kOdd));
  const std::uint64_t hash = (static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U)) * kOdd;
  return hash ^ (hash >> 32U);
}

}  // namespace nopspan::collector
