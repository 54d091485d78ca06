// SPDX-License-Identifier: Apache-2.0
// Trace ids, span ids and request ids: how they are generated and encoded.
#pragma once

#include "thread/thread_state.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kTraceIdBytes = 16;
inline constexpr std::size_t kRequestIdChars = 22;  // nopspan_request_id() makes them

inline bool all_zero(const unsigned char* bytes, std::size_t size) noexcept {
  unsigned char any = 0;
  for (std::size_t i = 0; i < size; ++i) any |= bytes[i];
  return any == 0;
}

// A number from the thread's generator, xoshiro256** (Blackman and Vigna). The thread must have read its clock just
// before. The time becomes a part of the state, because copies of the process have the same state (thread/random.cpp).
// It is multiplied, because a xor alone would undo itself with the next number at the same time.
inline std::uint64_t next_random(ThreadState* thread) noexcept {
  constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15;
  const auto rotate_left = [](std::uint64_t x, unsigned k) { return (x << k) | (x >> (64U - k)); };
  const std::uint64_t now = thread->clock.last();
  if (__builtin_expect(now - thread->renewed_ns.load(std::memory_order_relaxed) >= kRenewEveryNs, 0)) {
    renew_random(thread, now);
  }
  std::uint64_t* const state = thread->random.state;
  const std::uint64_t s1 = (state[1] ^ now) * kOdd;
  const std::uint64_t s2 = state[2] ^ state[0];
  const std::uint64_t s3 = state[3] ^ s1;
  state[1] = s1 ^ s2;
  state[0] ^= s3;
  state[2] = s2 ^ (s1 << 17U);
  state[3] = rotate_left(s3, 45);
  return rotate_left(s1 * 5, 7) * 9;
}

// Makes a trace id: 16 bytes from the thread's generator of bytes that nobody can predict, not all zero. Those bytes
// were made before, so copies of the process have them too. The number that is added makes the ids differ.
inline void make_trace_id(ThreadState* thread, unsigned char (&out)[kTraceIdBytes]) noexcept {
  do {
    if (thread->entropy_left < kTraceIdBytes) refill_entropy(thread);
    thread->entropy_left -= kTraceIdBytes;
    unsigned char* const made = thread->random.entropy + thread->entropy_left;
    std::uint64_t words[2];
    static_assert(sizeof(words) == kTraceIdBytes);
    std::memcpy(words, made, kTraceIdBytes);
    std::memset(made, 0, kTraceIdBytes);
    const std::uint64_t added = next_random(thread);
    for (std::uint64_t& word : words) word ^= added;
    std::memcpy(out, words, kTraceIdBytes);
  } while (all_zero(out, kTraceIdBytes));
}

// Makes a span id, or another number that nobody else has: not zero.
inline std::uint64_t make_span_id(ThreadState* thread) noexcept {
  for (;;) {
    const std::uint64_t id = next_random(thread);
    if (__builtin_expect(id != 0, 1)) return id;
  }
}

// Writes the last `digits` hexadecimal digits of a number.
inline void encode_hex(std::uint64_t number, std::size_t digits, char* out) noexcept {
  for (; digits > 0; number >>= 4U) out[--digits] = "0123456789abcdef"[number & 15U];
}
inline void encode_hex(const unsigned char* bytes, std::size_t size, char* out) noexcept {
  for (std::size_t i = 0; i < size; ++i) encode_hex(bytes[i], 2, out + 2 * i);
}

// -1 for any other character. Digits in upper case are accepted only if `upper_too`.
inline int hex_value(char c, bool upper_too) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (upper_too && c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// False unless `text` has exactly 2 * size hexadecimal digits.
inline bool decode_hex(std::string_view text, unsigned char* out, std::size_t size, bool upper_too) noexcept {
  if (text.size() != 2 * size) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const int high = hex_value(text[2 * i], upper_too);
    const int low = hex_value(text[2 * i + 1], upper_too);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<unsigned char>((high << 4) | low);
  }
  return true;
}

}  // namespace nopspan::detail
