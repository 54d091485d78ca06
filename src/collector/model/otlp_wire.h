// SPDX-License-Identifier: Apache-2.0
// Reads and writes OTLP attributes: a sequence of protobuf KeyValues, each with the tag of the field that it is in.
// This header and its source need no other library, because the library nopspan::recording is built from them too.
#pragma once

#include "base/protobuf.h"
#include "base/utf8.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nopspan::collector {

// The numbers of the fields that have KeyValues.
inline constexpr unsigned kSpanAttributes = 9, kEventAttributes = 3, kLogAttributes = 6, kPointAttributes = 7;
inline constexpr unsigned kResourceAttributes = 1, kScopeAttributes = 3;

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
  ProtobufFields fields(run);
  const char* begin = run.data();
  while (fields.next()) {
    if (fields.number() != field || fields.type() != ProtobufType::delimited) return false;
    const char* const end = fields.end();
    each(fields.bytes(), std::string_view(begin, static_cast<std::size_t>(end - begin)));
    begin = end;
  }
  return fields.is_valid();
}

// These append the parts of a message to a std::string or a ByteBuffer. In texts, "?" replaces bytes that are not
// UTF-8.
template <class Out>
void append_varint(Out& out, unsigned field, std::uint64_t value) {
  char head[24];
  char* at = put_varint(head, field << 3U);
  out.append(head, static_cast<std::size_t>(put_varint(at, value) - head));
}

template <class Out>
void append_fixed32(Out& out, unsigned field, std::uint32_t value) {
  char head[8];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(ProtobufType::fixed32));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

template <class Out>
void append_fixed64(Out& out, unsigned field, std::uint64_t value) {
  char head[24];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(ProtobufType::fixed64));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

// Appends the tag and the length of a field whose `bytes` bytes the caller appends next.
template <class Out>
void append_length(Out& out, unsigned field, std::size_t bytes) {
  char head[24];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(ProtobufType::delimited));
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
void append_real_attribute(Out& out, unsigned field, std::string_view key, double value) {
  std::uint64_t word;
  std::memcpy(&word, &value, sizeof(word));
  append_key(out, field, key, 1 + sizeof(word));
  append_fixed64(out, 4, word);
}

template <class Out>
void append_bytes_attribute(Out& out, unsigned field, std::string_view key, std::string_view bytes) {
  append_delimited_value(out, field, key, 7, bytes);
}

}  // namespace nopspan::collector
