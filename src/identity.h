// SPDX-License-Identifier: Apache-2.0
// Ids: where their bytes come from and how they are written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

struct ThreadState;

inline constexpr std::size_t kTraceIdBytes = 16;
inline constexpr std::size_t kRequestIdChars = 22;

// getrandom(2); never fails (without it: clocks and addresses, mixed).
void system_random(void* out, std::size_t size) noexcept;

// 16 bytes of getrandom(2), not all zero, from the thread's pool of them.
void make_trace_id(ThreadState* thread, unsigned char (&out)[kTraceIdBytes]) noexcept;
// Not zero; from the thread's generator.
std::uint64_t make_span_id(ThreadState* thread) noexcept;

// URL-safe Base64 without padding; writes 22 characters.
void encode_request_id(const unsigned char (&id)[kTraceIdBytes], char* out) noexcept;
// False unless `text` is 22 characters that encode_request_id() could have written, of an id that is not all zero.
bool decode_request_id(std::string_view text, unsigned char (&out)[kTraceIdBytes]) noexcept;

void encode_hex(const unsigned char* bytes, std::size_t size, char* out) noexcept;
// Exactly 2*size hexadecimal digits; upper case only where `upper_too`.
bool decode_hex(std::string_view text, unsigned char* out, std::size_t size, bool upper_too) noexcept;

// The trace id of a request id of another shape: FNV-1a, 128 bits, big-endian; never all zero.
void hash_request_id(std::string_view text, unsigned char (&out)[kTraceIdBytes]) noexcept;

bool all_zero(const unsigned char* bytes, std::size_t size) noexcept;

}  // namespace nopspan::detail
