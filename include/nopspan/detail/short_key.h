// SPDX-License-Identifier: Apache-2.0
// Keys of fields that the compiler knows: literals of at most 16 bytes. The application's code passes such a key to the
// library in registers, with what the library would otherwise compute at each call.
#ifndef NOPSPAN_DETAIL_SHORT_KEY_H
#define NOPSPAN_DETAIL_SHORT_KEY_H

#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::detail {

// The first eight and the last eight bytes of a key. Of a key with 4 to 7 bytes: the first four and the last four. Of a
// shorter one: the first byte and the last one.
struct KeyEnds {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
};
[[gnu::__always_inline__]] inline KeyEnds key_ends(const char* key, std::size_t size) noexcept {
  KeyEnds ends;
  if (size >= 8) {
    __builtin_memcpy(&ends.first, key, 8);
    __builtin_memcpy(&ends.last, key + size - 8, 8);
  } else if (size >= 4) {
    __builtin_memcpy(&ends.first, key, 4);
    __builtin_memcpy(&ends.last, key + size - 4, 4);
  } else if (size > 0) {
    ends.first = static_cast<unsigned char>(key[0]);
    ends.last = static_cast<unsigned char>(key[size - 1]);
  }
  return ends;
}

// The number of a key's bit in the filter of a span's keys (a FieldBuffer): part of the ABI.
[[gnu::__always_inline__]] constexpr unsigned key_bit_number(const KeyEnds& ends) noexcept {
  return static_cast<unsigned>(((ends.first ^ (ends.last << 29U | ends.last >> 35U)) * 0x9e3779b97f4a7c15U) >> 58U);
}

// A key of 1 to 16 ASCII bytes, as the library takes it: part of the ABI. The words have its bytes in the order of
// memory, and zeroes after them.
struct ShortKey {
  std::uint64_t word[2] = {0, 0};
  std::uint32_t size_and_bit = 0;  // size | key_bit_number() << 8; 0: none
};

// The key, if the compiler knows it and it is a short one. Otherwise one with size_and_bit 0. Both are known to the
// compiler, so it removes this function and the path that is not used.
[[gnu::__always_inline__]] inline ShortKey short_key(Text key) noexcept {
  ShortKey known;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const std::size_t size = key.size();
  const char* const data = key.data();
  if (!__builtin_constant_p(size) || size == 0 || size > 16) return known;
  if (!__builtin_constant_p(data[0]) || !__builtin_constant_p(data[size - 1])) return known;
  const KeyEnds ends = key_ends(data, size);
  if (size > 8) {
    known.word[0] = ends.first;
    known.word[1] = ends.last >> (8 * (16 - size));
  } else if (size == 8) {
    known.word[0] = ends.first;
  } else if (size >= 4) {
    known.word[0] = ends.first | (ends.last >> (8 * (8 - size))) << 32U;
  } else {
    const std::uint64_t middle = static_cast<unsigned char>(data[size / 2]);
    known.word[0] = ends.first | middle << (8 * (size / 2)) | ends.last << (8 * (size - 1));
  }
  if (((known.word[0] | known.word[1]) & 0x8080808080808080U) != 0) return {};
  known.size_and_bit = static_cast<std::uint32_t>(size) | key_bit_number(ends) << 8U;
  if (!__builtin_constant_p(known.size_and_bit)) return {};
#else
  static_cast<void>(key);
#endif
  return known;
}

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_SHORT_KEY_H
