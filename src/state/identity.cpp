// SPDX-License-Identifier: Apache-2.0
#include "state/identity.h"

#include <cstring>

namespace nopspan::detail {
namespace {

constexpr char kAlphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
constexpr char kHexDigits[] = "0123456789abcdef";

int base64_value(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  if (c == '-') return 62;
  if (c == '_') return 63;
  return -1;
}

int hex_value(char c, bool upper_too) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (upper_too && c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

void make_trace_id(ThreadState* thread, unsigned char (&out)[kTraceIdBytes]) noexcept {
  do {
    if (thread->entropy_left < kTraceIdBytes) {
      system_random(thread->entropy, sizeof(thread->entropy));
      thread->entropy_left = sizeof(thread->entropy);
    }
    thread->entropy_left -= kTraceIdBytes;
    std::memcpy(out, thread->entropy + thread->entropy_left, kTraceIdBytes);
    std::memset(thread->entropy + thread->entropy_left, 0, kTraceIdBytes);
  } while (all_zero(out, kTraceIdBytes));
}

void encode_request_id(const unsigned char (&id)[kTraceIdBytes], char* out) noexcept {
  for (std::size_t i = 0; i < 15; i += 3) {
    const unsigned bits = (unsigned{id[i]} << 16U) | (unsigned{id[i + 1]} << 8U) | id[i + 2];
    *out++ = kAlphabet[bits >> 18U];
    *out++ = kAlphabet[(bits >> 12U) & 63U];
    *out++ = kAlphabet[(bits >> 6U) & 63U];
    *out++ = kAlphabet[bits & 63U];
  }
  *out++ = kAlphabet[id[15] >> 2U];
  *out = kAlphabet[(id[15] & 3U) << 4U];
}

bool decode_request_id(std::string_view text, unsigned char (&out)[kTraceIdBytes]) noexcept {
  if (text.size() != kRequestIdChars) return false;
  int values[kRequestIdChars];
  for (std::size_t i = 0; i < kRequestIdChars; ++i) {
    values[i] = base64_value(text[i]);
    if (values[i] < 0) return false;
  }
  if ((values[21] & 15) != 0) return false;  // unused bits: encode_request_id() writes them as 0
  for (std::size_t i = 0; i < 5; ++i) {
    const int* v = values + 4 * i;
    out[3 * i] = static_cast<unsigned char>((v[0] << 2) | (v[1] >> 4));
    out[3 * i + 1] = static_cast<unsigned char>((v[1] << 4) | (v[2] >> 2));
    out[3 * i + 2] = static_cast<unsigned char>((v[2] << 6) | v[3]);
  }
  out[15] = static_cast<unsigned char>((values[20] << 2) | (values[21] >> 4));
  return !all_zero(out, kTraceIdBytes);
}

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

void hash_request_id(std::string_view text, unsigned char (&out)[kTraceIdBytes]) noexcept {
  __extension__ using Wide = unsigned __int128;
  const Wide prime = (Wide{1} << 88U) | 0x13bU;
  Wide hash = (Wide{0x6c62272e07bb0142U} << 64U) | 0x62b821756295c58dU;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * prime;
  if (hash == 0) hash = 1;
  for (std::size_t i = 0; i < kTraceIdBytes; ++i) {
    out[kTraceIdBytes - 1 - i] = static_cast<unsigned char>(hash >> (8 * i));
  }
}

bool all_zero(const unsigned char* bytes, std::size_t size) noexcept {
  unsigned char any = 0;
  for (std::size_t i = 0; i < size; ++i) any |= bytes[i];
  return any == 0;
}

}  // namespace nopspan::detail
