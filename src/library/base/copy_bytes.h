// SPDX-License-Identifier: Apache-2.0
// memcpy() and memcmp() for short texts. The copy also reports whether they are ASCII.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace nopspan::detail {

inline std::uint64_t load_word(const char* bytes) noexcept {
  std::uint64_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

// copy_bytes() for more than 64 bytes.
__attribute__((noinline)) inline std::uint64_t copy_more_bytes(void* to, const void* from, std::size_t size) noexcept {
  std::memcpy(to, from, size);
  const auto* in = static_cast<const char*>(from);
  std::uint64_t all = load_word(in + size - 8);
  for (std::size_t at = 0; at + 8 <= size; at += 8) all |= load_word(in + at);
  return all;
}

// Copies bytes like memcpy(), but inline even if the size is not a constant: it uses loads and stores of fixed sizes,
// which may overlap. Returns the bitwise OR of all bytes, in groups of eight, for is_ascii().
__attribute__((always_inline)) inline std::uint64_t copy_bytes(void* to, const void* from, std::size_t size) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  const auto copy = [&](std::size_t at, auto word) -> std::uint64_t {
    std::memcpy(&word, in + at, sizeof(word));
    std::memcpy(out + at, &word, sizeof(word));
    return word;
  };
  if (size >= 8) {
    if (size > 64) return copy_more_bytes(to, from, size);
    const auto copy_two = [&](std::size_t at) {
      return copy(at, std::uint64_t{}) | copy(size - 8 - at, std::uint64_t{});
    };
    std::uint64_t all = copy_two(0);
    if (size > 16) all |= copy_two(8);
    if (size > 32) all |= copy_two(16) | copy_two(24);
    return all;
  }
  if (size >= 4) return copy(0, std::uint32_t{}) | copy(size - 4, std::uint32_t{});
  if (size == 0) return 0;
  return copy(0, std::uint8_t{}) | copy(size / 2, std::uint8_t{}) | copy(size - 1, std::uint8_t{});
}

// Copies words that other threads may be writing. What they write is read on purpose.
__attribute__((no_sanitize("thread"), noinline)) inline void copy_racing(void* to, const void* from,
                                                                         std::size_t bytes) noexcept {
  using Word __attribute__((may_alias)) = std::uint64_t;
  auto* const out = static_cast<Word*>(to);
  const auto* const in = static_cast<const Word*>(from);
  for (std::size_t i = 0; i < bytes / sizeof(Word); ++i) out[i] = __atomic_load_n(in + i, __ATOMIC_ACQUIRE);
}

// Compares bytes like memcmp(), but inline for 4 to 32 bytes, the usual size of names and labels.
inline bool is_same(const void* one, const void* other, std::size_t size) noexcept {
  const auto differ = [&](std::size_t at) {
    return load_word(static_cast<const char*>(one) + at) ^ load_word(static_cast<const char*>(other) + at);
  };
  // Up to 24 bytes are read in the words in which copy_name() has just written them, which is faster.
  if (size < 8 && size >= 4) {
    std::uint32_t words[4];
    std::memcpy(&words[0], one, 4);
    std::memcpy(&words[1], static_cast<const char*>(one) + size - 4, 4);
    std::memcpy(&words[2], other, 4);
    std::memcpy(&words[3], static_cast<const char*>(other) + size - 4, 4);
    return ((words[0] ^ words[2]) | (words[1] ^ words[3])) == 0;
  }
  if (size < 8 || size > 32) return std::memcmp(one, other, size) == 0;
  const std::uint64_t ends = differ(0) | differ(size - 8);
  if (size <= 16) return ends == 0;
  return (ends | differ(8) | (size <= 24 ? 0 : differ(16))) == 0;
}

// `all` is a return value of copy_bytes(). True if all the bytes were ASCII.
constexpr bool is_ascii(std::uint64_t all) noexcept { return (all & 0x8080808080808080U) == 0; }

}  // namespace nopspan::detail
