// SPDX-License-Identifier: Apache-2.0
// The block function of ChaCha20 (RFC 8439, section 2.3): 64 bytes that nobody can predict without the key.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::detail {

inline constexpr std::size_t kChachaBlock = 64;

// The counter and the nonce have 64 bits each. No pair of them may be used twice with the same key.
inline void chacha_block(const std::uint64_t (&key)[4], std::uint64_t counter, std::uint64_t nonce,
                         unsigned char* out) noexcept {
  std::uint32_t input[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574};  // "expand 32-byte k"
  std::memcpy(input + 4, key, sizeof(key));
  std::memcpy(input + 12, &counter, sizeof(counter));
  std::memcpy(input + 14, &nonce, sizeof(nonce));
  std::uint32_t x[16];
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
    // Written out, because only then the compiler keeps all words in registers.
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
  std::memcpy(out, x, sizeof(x));
}

}  // namespace nopspan::detail
