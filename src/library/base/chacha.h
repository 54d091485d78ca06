// SPDX-License-Identifier: Apache-2.0
// The block function of ChaCha20 (RFC 8439, section 2.3): bytes that nobody can predict without the key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::detail {

inline constexpr std::size_t kChachaBlocks = 4, kChachaBytes = kChachaBlocks * 64;

// Writes four blocks, whose counters follow each other: a lane of a vector for each, which takes little longer than one
// block. The counter and the nonce have 64 bits each. No pair of them may be used twice with the same key.
inline void chacha_blocks(const std::uint64_t (&key)[4], std::uint64_t counter, std::uint64_t nonce,
                          unsigned char* out) noexcept {
  using Lanes __attribute__((vector_size(4 * kChachaBlocks))) = std::uint32_t;
  constexpr std::uint32_t kWords[] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};  // "expand 32-byte k"
  std::uint32_t words[16];
  std::memcpy(words, kWords, sizeof(kWords));
  std::memcpy(words + 4, key, sizeof(key));
  std::memcpy(words + 14, &nonce, sizeof(nonce));
  Lanes input[16], x[16];
  for (unsigned i = 0; i < 16; ++i) input[i] = Lanes{} + words[i];
  for (unsigned block = 0; block < kChachaBlocks; ++block) {
    input[12][block] = static_cast<std::uint32_t>(counter + block);
    input[13][block] = static_cast<std::uint32_t>((counter + block) >> 32U);
  }
  std::memcpy(x, input, sizeof(x));
  const auto mix = [&x](unsigned a, unsigned b, unsigned c, unsigned d) {
    const auto step = [&x](unsigned to, unsigned from, unsigned turned, unsigned bits) {
      x[to] += x[from];
      x[turned] ^= x[to];
      x[turned] = x[turned] << bits | x[turned] >> (32 - bits);
    };
    step(a, b, d, 16);
    step(c, d, b, 12);
    step(a, b, d, 8);
    step(c, d, b, 7);
  };
  constexpr int kRounds = 20;
  for (int round = 0; round < kRounds; round += 2) {
    // Written out, because only then the compiler keeps the words in registers.
    mix(0, 4, 8, 12);  // columns
    mix(1, 5, 9, 13);
    mix(2, 6, 10, 14);
    mix(3, 7, 11, 15);
    mix(0, 5, 10, 15);  // diagonals
    mix(1, 6, 11, 12);
    mix(2, 7, 8, 13);
    mix(3, 4, 9, 14);
  }
  for (unsigned i = 0; i < 16; ++i) x[i] += input[i];
  for (unsigned block = 0; block < kChachaBlocks; ++block) {
    for (unsigned i = 0; i < 16; ++i) {
      const std::uint32_t word = x[i][block];
      std::memcpy(out + block * 64 + i * sizeof(word), &word, sizeof(word));
    }
  }
}

}  // namespace nopspan::detail
