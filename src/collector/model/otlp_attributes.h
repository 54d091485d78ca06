// SPDX-License-Identifier: Apache-2.0
// Reads and writes OTLP attributes: a sequence of protobuf KeyValues, each with the tag of the field that it is in.
#pragma once

#include "base/utf8.h"

#include <protozero/pbf_reader.hpp>
#include <protozero/varint.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nopspan::collector {

// The numbers of the fields that have KeyValues.
inline constexpr unsigned kSpanAttributes = 9, kEventAttributes = 3, kLogAttributes = 6, kPointAttributes = 7;
inline constexpr unsigned kResourceAttributes = 1, kScopeAttributes = 3;

// The bytes of a field that is a message, a string or bytes.
inline std::string_view view_of(protozero::pbf_reader& reader) {
  const protozero::data_view view = reader.get_view();
  return {view.data(), view.size()};
}

struct Attribute {
  enum class Type : std::uint8_t { none, text, boolean, integer, real, list, map, bytes };

  std::string_view key;
  Type type = Type::none;
  std::string_view text;  // for a list or map the bytes of its message
  std::int64_t integer = 0;
  double real = 0;
};

// Reads a KeyValue. Returns false if some receivers would reject it: malformed protobuf, text that is not UTF-8, or
// nested deeper than protobuf's decoders allow.
bool read_attribute(std::string_view key_value, Attribute& attribute);
// Reads an AnyValue, so everything except the key.
bool read_value(std::string_view any_value, Attribute& value);

// Calls `each(key_value, whole)` for each field with the number `field`; `whole` includes tag and length. Returns false
// at the first field that is something else. The fields before it have been passed to `each`.
template <class Each>
bool for_each_key_value(std::string_view run, unsigned field, const Each& each) {
  try {
    protozero::pbf_reader reader(run.data(), run.size());
    const char* begin = run.data();
    while (reader.next()) {
      if (reader.tag() != field || reader.wire_type() != protozero::pbf_wire_type::length_delimited) return false;
      const protozero::data_view view = reader.get_view();
      const char* end = view.data() + view.size();
      each(std::string_view(view.data(), view.size()), std::string_view(begin, static_cast<std::size_t>(end - begin)));
      begin = end;
    }
  } catch (const protozero::exception&) {
    return false;
  }
  return true;
}

inline std::size_t varint_bytes(std::uint64_t value) {
  return value < 0x80 ? 1 : static_cast<std::size_t>(protozero::length_of_varint(value));
}
// Writes a varint to `at` and returns its end. The caller provides the room.
inline char* put_varint(char* at, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7U) *at++ = static_cast<char>(value | 0x80U);
  *at++ = static_cast<char>(value);
  return at;
}

// These append the parts of a message to a std::string or a ByteBuffer. In texts, "?" replaces bytes that are not
// UTF-8.
template <class Out>
void append_varint(Out& out, unsigned field, std::uint64_t value) {
  char head[16];
  char* at = put_varint(head, field << 3U);
  out.append(head, static_cast<std::size_t>(put_varint(at, value) - head));
}

template <class Out>
void append_fixed32(Out& out, unsigned field, std::uint32_t value) {
  char head[8];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(protozero::pbf_wire_type::fixed32));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

template <class Out>
void append_fixed64(Out& out, unsigned field, std::uint64_t value) {
  char head[16];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(protozero::pbf_wire_type::fixed64));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

// Appends the tag and the length of a field whose `bytes` bytes the caller appends next.
template <class Out>
void append_length(Out& out, unsigned field, std::size_t bytes) {
  char head[16];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(protozero::pbf_wire_type::length_delimited));
  out.append(head, static_cast<std::size_t>(put_varint(at, bytes) - head));
}

template <class Out>
void append_bytes(Out& out, unsigned field, std::string_view bytes) {
  append_length(out, field, bytes.size());
  out.append(bytes);
}

template <class Out>
void append_text(Out& out, unsigned field, std::string_view text) {
  if (is_utf8(text)) {
    append_bytes(out, field, text);
  } else {
    append_bytes(out, field, repaired_utf8(text));
  }
}

// Appends a KeyValue up to the value's own bytes: tag, length, key, and the tag and length of the AnyValue.
template <class Out>
void append_key(Out& out, unsigned field, std::string_view key, std::size_t value_bytes) {
  const std::size_t key_value_bytes =
      1 + varint_bytes(key.size()) + key.size() + 1 + varint_bytes(value_bytes) + value_bytes;
  append_length(out, field, key_value_bytes);
  append_bytes(out, 1, key);
  append_length(out, 2, value_bytes);
}

template <class Out>
void append_delimited_value(Out& out, unsigned field, std::string_view key, unsigned tag, std::string_view bytes) {
  append_key(out, field, key, 1 + varint_bytes(bytes.size()) + bytes.size());
  append_bytes(out, tag, bytes);
}

template <class Out>
void append_text_attribute(Out& out, unsigned field, std::string_view key, std::string_view text) {
  if (is_utf8(text)) {
    append_delimited_value(out, field, key, 1, text);
  } else {
    append_delimited_value(out, field, key, 1, repaired_utf8(text));
  }
}

template <class Out>
void append_integer_attribute(Out& out, unsigned field, std::string_view key, std::int64_t value) {
  const auto word = static_cast<std::uint64_t>(value);
  append_key(out, field, key, 1 + varint_bytes(word));
  append_varint(out, 3, word);
}

template <class Out>
void append_bytes_attribute(Out& out, unsigned field, std::string_view key, std::string_view bytes) {
  append_delimited_value(out, field, key, 7, bytes);
}

}  // namespace nopspan::collector
