// SPDX-License-Identifier: Apache-2.0
// A fast hash of short texts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

// For hash tables inside this process only. The value may change with each version of the library.
inline std::uint64_t hash_bytes(std::string_view text) noexcept {
  std::uint64_t hash = text.size() * 0x9e3779b97f4a7c15U;
  const char* at = text.data();
  std::size_t left = text.size();
  const auto mix = [&hash](std::uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdU;
    hash ^= hash >> 32U;
  };
  for (; left >= 8; at += 8, left -= 8) {
    std::uint64_t word;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  // Reads the rest with loads of fixed sizes, which may overlap, because a memcpy() of `left` bytes would be a call.
  if (left >= 4) {
    std::uint32_t low;
    std::uint32_t high;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + left - 4, 4);
    mix((std::uint64_t{high} << 32U) | low);
  } else if (left > 0) {
    const auto byte = [at](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(at[i])}; };
    mix(byte(0) | (byte(left / 2) << 8U) | (byte(left - 1) << 16U));
  }
  return hash;
}

}  // namespace nopspan::detail
