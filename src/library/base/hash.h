// SPDX-License-Identifier: Apache-2.0
// A fast hash of short texts.
#pragma once

#include "base/copy_bytes.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

// hash_bytes() of a text of 8 to 24 bytes, which are in words that may overlap: the first and the last eight bytes, and
// the second eight if there are more than 16.
inline std::uint64_t hash_words(std::size_t size, std::uint64_t first, std::uint64_t second,
                                std::uint64_t last) noexcept {
  const auto fold = [](std::uint64_t a, std::uint64_t b) {
    __extension__ using Wide = unsigned __int128;
    const Wide product = static_cast<Wide>(a) * b;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64U);
  };
  const std::uint64_t hash = fold(first ^ (0x9e3779b97f4a7c15U + size), last ^ 0xff51afd7ed558ccdU);
  return size <= 16 ? hash : fold(hash ^ second, 0xc4ceb9fe1a85ec53U);
}

// For hash tables inside this process only. The value may change with each version of the library.
inline std::uint64_t hash_bytes(std::string_view text) noexcept {
  const char* at = text.data();
  std::size_t left = text.size();
  if (left >= 8 && left <= 24) {
    return hash_words(left, load_word(at), left > 16 ? load_word(at + 8) : 0, load_word(at + left - 8));
  }
  std::uint64_t hash = text.size() * 0x9e3779b97f4a7c15U;
  const auto mix = [&hash](std::uint64_t word) {
    hash = (hash ^ word) * 0xff51afd7ed558ccdU;
    hash ^= hash >> 32U;
  };
  for (; left >= 8; at += 8, left -= 8) mix(load_word(at));
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
