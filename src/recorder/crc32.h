// SPDX-License-Identifier: Apache-2.0
// zlib's crc32(), without a library. x86-64 processors that can multiply polynomials do so. Others read eight bytes at
// a time (slicing-by-8).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#ifdef __x86_64__
#include <wmmintrin.h>
#endif

namespace nopspan::recording {

// The remainder `crc` of a polynomial, times x. Bit 31 - i of a remainder belongs to the power i.
constexpr std::uint32_t crc32_times_x(std::uint32_t crc) { return (crc >> 1U) ^ ((crc & 1U) != 0 ? 0xedb88320U : 0U); }

using Crc32Tables = std::array<std::array<std::uint32_t, 256>, 8>;

constexpr Crc32Tables make_crc32_tables() {
  Crc32Tables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc32_times_x(crc);
    tables[0][i] = crc;
  }
  for (std::size_t table = 1; table < tables.size(); ++table) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[table - 1][i];
      tables[table][i] = (before >> 8U) ^ tables[0][before & 0xffU];
    }
  }
  return tables;
}

// The remainder of what has the remainder `crc`, followed by these bytes.
inline std::uint32_t crc32_by_table(std::uint32_t crc, std::string_view bytes) {
  static constexpr Crc32Tables kTables = make_crc32_tables();
  for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
    std::uint64_t word;
    std::memcpy(&word, bytes.data(), sizeof(word));
    word ^= crc;
    crc = 0;
    for (std::size_t i = 0; i < 8; ++i) crc ^= kTables[7 - i][word >> (8 * i) & 0xffU];
  }
  for (const char byte : bytes) crc = (crc >> 8U) ^ kTables[0][(crc ^ static_cast<unsigned char>(byte)) & 0xffU];
  return crc;
}

#ifdef __x86_64__
// 16 bytes are replaced by 16 bytes with the same remainder that stand behind them. How far is in two factors: x to
// the power of that number of bits plus 32 for the first half, and less 32 for the second one, as remainders.
class Crc32Fold {
 public:
  static bool is_possible() { return __builtin_cpu_supports("pclmul"); }

  __attribute__((target("pclmul"))) static std::uint32_t crc32(std::uint32_t crc, std::string_view bytes) {
    constexpr std::size_t kLanes = 4, kLane = sizeof(__m128i);
    if (bytes.size() < kLanes * kLane) return crc32_by_table(crc, bytes);
    const auto take = [&bytes] {
      const __m128i next = _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes.data()));
      bytes.remove_prefix(kLane);
      return next;
    };
    __m128i lanes[kLanes];
    for (__m128i& lane : lanes) lane = take();
    lanes[0] = _mm_xor_si128(lanes[0], _mm_cvtsi32_si128(static_cast<int>(crc)));
    while (bytes.size() >= kLanes * kLane) {
      for (__m128i& lane : lanes) lane = _mm_xor_si128(moved<kLanes * 128>(lane), take());
    }
    for (std::size_t i = 1; i < kLanes; ++i) lanes[i] = _mm_xor_si128(moved<128>(lanes[i - 1]), lanes[i]);
    while (bytes.size() >= kLane) lanes[kLanes - 1] = _mm_xor_si128(moved<128>(lanes[kLanes - 1]), take());
    std::array<char, kLane> last{};
    std::memcpy(last.data(), &lanes[kLanes - 1], kLane);
    return crc32_by_table(crc32_by_table(0, {last.data(), kLane}), bytes);
  }

 private:
  static constexpr long long power_of_x(unsigned n) {
    std::uint32_t remainder = 1U << 31U;
    for (; n > 0; --n) remainder = crc32_times_x(remainder);
    return static_cast<long long>(std::uint64_t{remainder} << 1U);
  }
  template <unsigned kBits>
  __attribute__((target("pclmul"))) static __m128i moved(__m128i bytes) {
    constexpr long long kFar = power_of_x(kBits + 32), kNear = power_of_x(kBits - 32);
    const __m128i factors = _mm_set_epi64x(kNear, kFar);
    return _mm_xor_si128(_mm_clmulepi64_si128(bytes, factors, 0x00), _mm_clmulepi64_si128(bytes, factors, 0x11));
  }
};
#endif

inline std::uint32_t crc32_of(std::string_view bytes) {
#ifdef __x86_64__
  if (Crc32Fold::is_possible()) return ~Crc32Fold::crc32(~std::uint32_t{0}, bytes);
#endif
  return ~crc32_by_table(~std::uint32_t{0}, bytes);
}

}  // namespace nopspan::recording
