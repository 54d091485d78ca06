// SPDX-License-Identifier: Apache-2.0
// Reads and writes OTLP attributes: a sequence of protobuf KeyValues, each with the tag of the field that it is in.
#pragma once

#include "base/byte_buffer.h"
#include "base/protobuf.h"
#include "base/utf8.h"

#include <nopspan/semconv.h>

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// The numbers of the fields that have KeyValues.
inline constexpr unsigned kSpanAttributes = 9, kEventAttributes = 3, kLogAttributes = 6;
inline constexpr unsigned kResourceAttributes = 1;

struct Attribute {
  enum class Type : std::uint8_t { none, text, boolean, integer, real, list, map, bytes };

  std::string_view key;
  Type type = Type::none;
  std::string_view text;  // for a list or map the bytes of its message
  std::int64_t integer = 0;
  double real = 0;
};

// Reads a KeyValue. Returns false if receivers would reject it or read it in different ways: malformed protobuf, text
// that is not UTF-8, nested deeper than protobuf's decoders allow, two keys, or two values.
bool read_attribute(std::string_view key_value, Attribute& attribute);
// Reads an AnyValue, so everything except the key.
bool read_value(std::string_view any_value, Attribute& value);

// Calls `each(key_value)` for each field with the number `field`. Returns false at the first field that is something
// else. The fields before it have been passed to `each`.
template <class Each>
bool for_each_key_value(std::string_view run, unsigned field, const Each& each) {
  ProtobufFields fields(run);
  while (fields.next()) {
    if (fields.number() != field || fields.type() != ProtobufType::delimited) return false;
    each(fields.bytes());
  }
  return fields.is_valid();
}

// These append the parts of a message to a std::string or a ByteBuffer. In texts, U+FFFD replaces bytes that are not
// UTF-8.
// Appends at most `most` bytes, which `put` writes to its argument. It returns their end. With a ByteBuffer nothing is
// copied twice.
template <class Out, class Put>
void append_part(Out& out, std::size_t most, const Put& put) {
  if constexpr (requires { out.room(most); }) {
    out.end_at(put(out.room(most)));
  } else {
    const std::size_t begin = out.size();
    out.resize(begin + most);
    out.resize(static_cast<std::size_t>(put(out.data() + begin) - out.data()));
  }
}

// The limit of the length of a tag with a varint.
inline constexpr std::size_t kMostHead = 20;

inline char* put_tag(char* at, unsigned field, ProtobufType type) {
  return put_varint(at, field << 3U | static_cast<unsigned>(type));
}
inline char* put_length(char* at, unsigned field, std::size_t bytes) {
  return put_varint(put_tag(at, field, ProtobufType::delimited), bytes);
}
inline char* put_bytes(char* at, unsigned field, std::string_view bytes) {
  return ByteBuffer::copy(put_length(at, field, bytes.size()), bytes.data(), bytes.size());
}

template <class Out>
void append_varint(Out& out, unsigned field, std::uint64_t value) {
  append_part(out, kMostHead, [&](char* at) { return put_varint(put_tag(at, field, ProtobufType::varint), value); });
}

template <class Out>
void append_fixed32(Out& out, unsigned field, std::uint32_t value) {
  append_part(out, kMostHead, [&](char* at) { return put_word(put_tag(at, field, ProtobufType::fixed32), value); });
}

template <class Out>
void append_fixed64(Out& out, unsigned field, std::uint64_t value) {
  append_part(out, kMostHead, [&](char* at) { return put_word(put_tag(at, field, ProtobufType::fixed64), value); });
}

// Appends the tag and the length of a field whose `bytes` bytes the caller appends next.
template <class Out>
void append_length(Out& out, unsigned field, std::size_t bytes) {
  append_part(out, kMostHead, [&](char* at) { return put_length(at, field, bytes); });
}

template <class Out>
void append_bytes(Out& out, unsigned field, std::string_view bytes) {
  append_part(out, kMostHead + bytes.size(), [&](char* at) { return put_bytes(at, field, bytes); });
}

template <class Out>
void append_text(Out& out, unsigned field, std::string_view text) {
  if (is_utf8(text)) {
    append_bytes(out, field, text);
  } else {
    append_bytes(out, field, replaced_utf8(text));
  }
}

// Appends a KeyValue. `put_value` writes the AnyValue, which has `value_bytes` bytes.
template <class Out, class PutValue>
void append_key_value(Out& out, unsigned field, std::string_view key, std::size_t value_bytes,
                      const PutValue& put_value) {
  const std::size_t bytes = 1 + varint_bytes(key.size()) + key.size() + 1 + varint_bytes(value_bytes) + value_bytes;
  append_part(out, kMostHead + bytes, [&](char* at) {
    return put_value(put_length(put_bytes(put_length(at, field, bytes), 1, key), 2, value_bytes));
  });
}

template <class Out>
void append_delimited_value(Out& out, unsigned field, std::string_view key, unsigned tag, std::string_view bytes) {
  append_key_value(out, field, key, 1 + varint_bytes(bytes.size()) + bytes.size(),
                   [&](char* at) { return put_bytes(at, tag, bytes); });
}

template <class Out>
void append_text_attribute(Out& out, unsigned field, std::string_view key, std::string_view text) {
  if (is_utf8(text)) {
    append_delimited_value(out, field, key, 1, text);
  } else {
    append_delimited_value(out, field, key, 1, replaced_utf8(text));
  }
}

template <class Out>
void append_integer_attribute(Out& out, unsigned field, std::string_view key, std::int64_t value) {
  const auto word = static_cast<std::uint64_t>(value);
  append_key_value(out, field, key, 1 + varint_bytes(word),
                   [&](char* at) { return put_varint(put_tag(at, 3, ProtobufType::varint), word); });
}

template <class Out>
void append_bool_attribute(Out& out, unsigned field, std::string_view key, bool value) {
  append_key_value(out, field, key, 2,
                   [&](char* at) { return put_varint(put_tag(at, 2, ProtobufType::varint), value); });
}

template <class Out>
void append_real_attribute(Out& out, unsigned field, std::string_view key, double value) {
  append_key_value(out, field, key, 1 + sizeof(value),
                   [&](char* at) { return put_word(put_tag(at, 4, ProtobufType::fixed64), value); });
}

// Appends the field schema_url of a resource or a scope with items. The next conventions have no schema yet.
template <class Out>
void append_schema_url(Out& out, Semconv semconv) {
  if (semconv == Semconv::v1_41) append_bytes(out, 3, "https://opentelemetry.io/schemas/1.41.1");
}

}  // namespace nopspan::collector
