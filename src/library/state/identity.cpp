// SPDX-License-Identifier: Apache-2.0
#include "state/identity.h"

#include <nopspan/probes.h>

#include <cstring>

namespace nopspan::detail {
namespace {

constexpr char kHexDigits[] = "0123456789abcdef";

int hex_value(char c, bool upper_too) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (upper_too && c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void make_trace_id(ThreadState* thread, unsigned char (&out)[kTraceIdBytes]) noexcept {
  do {
    if (thread->entropy_left < kTraceIdBytes) refill_entropy(thread);
    thread->entropy_left -= kTraceIdBytes;
    std::memcpy(out, thread->random.entropy + thread->entropy_left, kTraceIdBytes);
    std::memset(thread->random.entropy + thread->entropy_left, 0, kTraceIdBytes);
  } while (all_zero(out, kTraceIdBytes));
}

void encode_request_id(const unsigned char (&id)[kTraceIdBytes], char* out) noexcept { nopspan_request_id(id, out); }

void encode_hex(const unsigned char* bytes, std::size_t size, char* out) noexcept {
  for (std::size_t i = 0; i < size; ++i) {
    *out++ = kHexDigits[bytes[i] >> 4U];
    *out++ = kHexDigits[bytes[i] & 15U];
  }
}

bool decode_hex(std::string_view text, unsigned char* out, std::size_t size, bool upper_too) noexcept {
  if (text.size() != 2 * size) return false;
  for (std::size_t i = 0; i < size; ++i) {
    const int high = hex_value(text[2 * i], upper_too);
    const int low = hex_value(text[2 * i + 1], upper_too);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<unsigned char>((high << 4) | low);
  }
  return true;
}

bool all_zero(const unsigned char* bytes, std::size_t size) noexcept {
  unsigned char any = 0;
  for (std::size_t i = 0; i < size; ++i) any |= bytes[i];
  return any == 0;
}

}  // namespace nopspan::detail
