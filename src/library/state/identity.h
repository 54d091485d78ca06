// SPDX-License-Identifier: Apache-2.0
// Trace ids, span ids and request ids: how they are generated and encoded.
#pragma once

#include "thread/random.h"
#include "thread/thread_state.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kTraceIdBytes = 16;
inline constexpr std::size_t kRequestIdChars = 22;

// Makes a trace id: 16 bytes from the thread's generator (thread/random.h), not all zero.
void make_trace_id(ThreadState* thread, unsigned char (&out)[kTraceIdBytes]) noexcept;
// Makes a span id: not zero, from the thread's pseudo-random generator.
inline std::uint64_t make_span_id(ThreadState* thread) noexcept {
  const auto rotate_left = [](std::uint64_t x, unsigned k) { return (x << k) | (x >> (64U - k)); };
  std::uint64_t* const state = thread->random.state;
  for (;;) {  // xoshiro256**, Blackman and Vigna
    const std::uint64_t s1 = state[1];
    const std::uint64_t s2 = state[2] ^ state[0];
    const std::uint64_t s3 = state[3] ^ s1;
    state[1] = s1 ^ s2;
    state[0] ^= s3;
    state[2] = s2 ^ (s1 << 17U);
    state[3] = rotate_left(s3, 45);
    const std::uint64_t id = rotate_left(s1 * 5, 7) * 9;
    if (__builtin_expect(id != 0, 1)) return id;
    if ((state[0] | state[1] | state[2] | state[3]) == 0) process_random(state, sizeof(thread->random.state));
  }
}

// Encodes a trace id as a request id: 22 characters of URL-safe Base64, without padding and without a NUL.
void encode_request_id(const unsigned char (&id)[kTraceIdBytes], char* out) noexcept;

void encode_hex(const unsigned char* bytes, std::size_t size, char* out) noexcept;
// False unless `text` has exactly 2 * size hexadecimal digits. Digits in upper case are accepted only if `upper_too`.
bool decode_hex(std::string_view text, unsigned char* out, std::size_t size, bool upper_too) noexcept;

bool all_zero(const unsigned char* bytes, std::size_t size) noexcept;

}  // namespace nopspan::detail
