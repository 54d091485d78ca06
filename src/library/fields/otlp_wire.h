// SPDX-License-Identifier: Apache-2.0
// The wire format of OTLP attributes: protobuf's messages KeyValue and AnyValue of opentelemetry.proto.common.v1.
#pragma once

#include <cstddef>
#include <cstdint>

namespace nopspan::detail::wire {

// Field numbers.
inline constexpr unsigned kKey = 1, kKeyValueValue = 2;                                                  // KeyValue
inline constexpr unsigned kString = 1, kBool = 2, kInt = 3, kDouble = 4, kArray = 5, kKeyValueList = 6;  // AnyValue
inline constexpr unsigned kValues = 1;                                                                   // both lists
// The field `attributes` of opentelemetry.proto.trace.v1.Span and of its Event.
inline constexpr unsigned kSpanAttributes = 9;
inline constexpr unsigned kEventAttributes = 3;

inline constexpr unsigned kVarint = 0, kFixed64 = 1, kDelimited = 2;  // wire types

// A tag is one byte, because all field numbers here are below 16.
constexpr unsigned char tag(unsigned field, unsigned type) noexcept {
  return static_cast<unsigned char>((field << 3U) | type);
}

constexpr std::size_t varint_size(std::uint64_t value) noexcept {
  if (value < 0x80) return 1;
  return (70 - static_cast<unsigned>(__builtin_clzll(value))) / 7;
}

// Writes a varint and returns the address after it.
inline unsigned char* write_varint(unsigned char* at, std::uint64_t value) noexcept {
  for (; value >= 0x80; value >>= 7U) *at++ = static_cast<unsigned char>(value | 0x80U);
  *at++ = static_cast<unsigned char>(value);
  return at;
}

// Reads a varint that write_varint() wrote. Other input is not checked.
inline std::uint64_t read_varint(const unsigned char* at) noexcept {
  std::uint64_t value = 0;
  unsigned shift = 0;
  for (; *at >= 0x80; ++at, shift += 7) value |= std::uint64_t{*at & 0x7fU} << shift;
  return value | std::uint64_t{*at} << shift;
}

}  // namespace nopspan::detail::wire
