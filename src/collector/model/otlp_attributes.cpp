// SPDX-License-Identifier: Apache-2.0
#include "model/otlp_attributes.h"

#include "base/utf8.h"

#include <protozero/varint.hpp>

#include <cstddef>
#include <cstring>

namespace nopspan::collector {
namespace {

using Wire = protozero::pbf_wire_type;

// Protobuf's decoders reject messages that are nested deeper than 100 levels. A KeyValue is at level 5 in spans and log
// records, and at level 7 in metrics.
constexpr unsigned kMostNested = 100 - 7;

bool is_valid_value(std::string_view any_value, unsigned depth, Attribute* value);

bool is_valid_key_value(std::string_view bytes, unsigned depth, Attribute* attribute) {
  if (depth > kMostNested) return false;
  protozero::pbf_reader reader(bytes.data(), bytes.size());
  while (reader.next()) {
    if (reader.wire_type() != Wire::length_delimited) return false;
    const auto tag = reader.tag();  // read it before the value: protozero's debug build forgets it after that
    const std::string_view part = view_of(reader);
    if (tag == 1) {
      if (!is_utf8(part)) return false;
      if (attribute != nullptr) attribute->key = part;
    } else if (tag != 2 || !is_valid_value(part, depth + 1, attribute)) {
      return false;
    }
  }
  return true;
}

// The items of an ArrayValue or a KeyValueList. Both have them in field 1.
bool are_valid_items(std::string_view bytes, bool are_key_values, unsigned depth) {
  if (depth > kMostNested) return false;
  protozero::pbf_reader reader(bytes.data(), bytes.size());
  while (reader.next()) {
    if (reader.tag() != 1 || reader.wire_type() != Wire::length_delimited) return false;
    const std::string_view item = view_of(reader);
    if (!(are_key_values ? is_valid_key_value(item, depth + 1, nullptr) : is_valid_value(item, depth + 1, nullptr))) {
      return false;
    }
  }
  return true;
}

bool is_valid_value(std::string_view any_value, unsigned depth, Attribute* value) {
  using Type = Attribute::Type;
  if (depth > kMostNested) return false;
  Attribute ignored;
  Attribute& out = value != nullptr ? *value : ignored;
  protozero::pbf_reader reader(any_value.data(), any_value.size());
  while (reader.next()) {
    switch (reader.tag_and_type()) {
      case protozero::tag_and_type(1, Wire::length_delimited):
        out.type = Type::text;
        out.text = view_of(reader);
        if (!is_utf8(out.text)) return false;
        break;
      case protozero::tag_and_type(2, Wire::varint):
        out.type = Type::boolean;
        out.integer = reader.get_uint64() != 0 ? 1 : 0;  // not get_bool(), which may read beyond the end
        break;
      case protozero::tag_and_type(3, Wire::varint):
        out.type = Type::integer;
        out.integer = reader.get_int64();
        break;
      case protozero::tag_and_type(4, Wire::fixed64):
        out.type = Type::real;
        out.real = reader.get_double();
        break;
      case protozero::tag_and_type(5, Wire::length_delimited):
      case protozero::tag_and_type(6, Wire::length_delimited):
        out.type = reader.tag() == 6 ? Type::map : Type::list;
        out.text = view_of(reader);
        if (!are_valid_items(out.text, out.type == Type::map, depth + 1)) return false;
        break;
      case protozero::tag_and_type(7, Wire::length_delimited):
        out.type = Type::bytes;
        out.text = view_of(reader);
        break;
      default:
        return false;
    }
  }
  return true;
}

std::size_t varint_bytes(std::uint64_t value) { return static_cast<std::size_t>(protozero::length_of_varint(value)); }

// Writes a varint to `at` and returns its end. The caller provides the room.
char* put_varint(char* at, std::uint64_t value) { return at + protozero::add_varint_to_buffer(at, value); }

// Appends a KeyValue up to the value's own bytes: tag, length, key, and the tag and length of the AnyValue.
void append_key(std::string& out, unsigned field, std::string_view key, std::size_t value_bytes) {
  const std::size_t key_value_bytes =
      1 + varint_bytes(key.size()) + key.size() + 1 + varint_bytes(value_bytes) + value_bytes;
  char head[16];
  char* at = put_varint(head, (field << 3U) | 2U);
  at = put_varint(at, key_value_bytes);
  *at++ = 0x0a;
  at = put_varint(at, key.size());
  out.append(head, static_cast<std::size_t>(at - head));
  out.append(key);
  head[0] = 0x12;
  out.append(head, static_cast<std::size_t>(put_varint(head + 1, value_bytes) - head));
}

void append_delimited_value(std::string& out, unsigned field, std::string_view key, unsigned tag,
                            std::string_view bytes) {
  append_key(out, field, key, 1 + varint_bytes(bytes.size()) + bytes.size());
  append_bytes(out, tag, bytes);
}

}  // namespace

bool read_attribute(std::string_view key_value, Attribute& attribute) {
  attribute = {};
  try {
    return is_valid_key_value(key_value, 0, &attribute);
  } catch (const protozero::exception&) {
    return false;
  }
}

bool read_value(std::string_view any_value, Attribute& value) {
  value = {};
  try {
    return is_valid_value(any_value, 0, &value);
  } catch (const protozero::exception&) {
    return false;
  }
}

void append_varint(std::string& out, unsigned field, std::uint64_t value) {
  char head[16];
  char* at = put_varint(head, field << 3U);
  out.append(head, static_cast<std::size_t>(put_varint(at, value) - head));
}

void append_fixed32(std::string& out, unsigned field, std::uint32_t value) {
  char head[8];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(Wire::fixed32));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

void append_fixed64(std::string& out, unsigned field, std::uint64_t value) {
  char head[16];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(Wire::fixed64));
  std::memcpy(at, &value, sizeof(value));
  out.append(head, static_cast<std::size_t>(at - head) + sizeof(value));
}

void append_length(std::string& out, unsigned field, std::size_t bytes) {
  char head[16];
  char* at = put_varint(head, (field << 3U) | static_cast<unsigned>(Wire::length_delimited));
  out.append(head, static_cast<std::size_t>(put_varint(at, bytes) - head));
}

void append_bytes(std::string& out, unsigned field, std::string_view bytes) {
  append_length(out, field, bytes.size());
  out.append(bytes);
}

void append_text(std::string& out, unsigned field, std::string_view text) {
  if (is_utf8(text)) {
    append_bytes(out, field, text);
  } else {
    append_bytes(out, field, repaired_utf8(text));
  }
}

void append_text_attribute(std::string& out, unsigned field, std::string_view key, std::string_view text) {
  if (is_utf8(text)) {
    append_delimited_value(out, field, key, 1, text);
  } else {
    append_delimited_value(out, field, key, 1, repaired_utf8(text));
  }
}

void append_integer_attribute(std::string& out, unsigned field, std::string_view key, std::int64_t value) {
  const auto word = static_cast<std::uint64_t>(value);
  append_key(out, field, key, 1 + varint_bytes(word));
  append_varint(out, 3, word);
}

void append_bytes_attribute(std::string& out, unsigned field, std::string_view key, std::string_view bytes) {
  append_delimited_value(out, field, key, 7, bytes);
}

}  // namespace nopspan::collector
