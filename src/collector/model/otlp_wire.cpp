// SPDX-License-Identifier: Apache-2.0
#include "model/otlp_wire.h"

#include <cstring>
#include <utility>

namespace nopspan::collector {
namespace {

using Wire = ProtobufType;

// Protobuf's decoders reject messages that are nested deeper than 100 levels. A KeyValue is at level 5 in spans and log
// records, and at level 7 in metrics.
constexpr unsigned kMostNested = 100 - 7;

bool is_valid_value(std::string_view any_value, unsigned depth, Attribute* value);

bool is_valid_key_value(std::string_view bytes, unsigned depth, Attribute* attribute) {
  if (depth > kMostNested) return false;
  bool has_key = false, has_value = false;
  ProtobufFields fields(bytes);
  while (fields.next()) {
    const std::string_view part = fields.bytes();
    if (fields.is(1, Wire::delimited) && !std::exchange(has_key, true)) {
      if (!is_utf8(part)) return false;
      if (attribute != nullptr) attribute->key = part;
    } else if (!fields.is(2, Wire::delimited) || std::exchange(has_value, true) ||
               !is_valid_value(part, depth + 1, attribute)) {
      return false;
    }
  }
  return fields.is_valid();
}

// The items of an ArrayValue or a KeyValueList. Both have them in field 1.
bool are_valid_items(std::string_view bytes, bool are_key_values, unsigned depth) {
  if (depth > kMostNested) return false;
  ProtobufFields fields(bytes);
  while (fields.next()) {
    if (!fields.is(1, Wire::delimited)) return false;
    const std::string_view item = fields.bytes();
    if (!(are_key_values ? is_valid_key_value(item, depth + 1, nullptr) : is_valid_value(item, depth + 1, nullptr))) {
      return false;
    }
  }
  return fields.is_valid();
}

bool is_valid_value(std::string_view any_value, unsigned depth, Attribute* value) {
  using Type = Attribute::Type;
  if (depth > kMostNested) return false;
  Attribute ignored;
  Attribute& out = value != nullptr ? *value : ignored;
  ProtobufFields fields(any_value);
  for (bool has_value = false; fields.next(); has_value = true) {
    if (has_value) return false;
    if (fields.is(1, Wire::delimited)) {
      out.type = Type::text;
      out.text = fields.bytes();
      if (!is_utf8(out.text)) return false;
    } else if (fields.is(2, Wire::varint)) {
      out.type = Type::boolean;
      out.integer = fields.integer() != 0 ? 1 : 0;
    } else if (fields.is(3, Wire::varint)) {
      out.type = Type::integer;
      out.integer = static_cast<std::int64_t>(fields.integer());
    } else if (fields.is(4, Wire::fixed64)) {
      out.type = Type::real;
      const std::uint64_t word = fields.integer();
      std::memcpy(&out.real, &word, sizeof(out.real));
    } else if (fields.is(5, Wire::delimited) || fields.is(6, Wire::delimited)) {
      out.type = fields.number() == 6 ? Type::map : Type::list;
      out.text = fields.bytes();
      if (!are_valid_items(out.text, out.type == Type::map, depth + 1)) return false;
    } else if (fields.is(7, Wire::delimited)) {
      out.type = Type::bytes;
      out.text = fields.bytes();
    } else {
      return false;
    }
  }
  return fields.is_valid();
}

// Reads nearly all attributes: a key, then one short value that is no list, map or bytes. Returns false for all
// others, valid or not. `attribute` is then unspecified.
bool read_plain(std::string_view key_value, Attribute& attribute) {
  using Type = Attribute::Type;
  constexpr std::size_t kMost = 0x7f;  // lengths that are a varint of one byte
  const auto byte_at = [&](std::size_t i) { return static_cast<unsigned char>(key_value[i]); };
  if (key_value.size() < 2 || byte_at(0) != 0x0a || byte_at(1) > kMost) return false;
  const std::size_t key_bytes = byte_at(1), value_at = 2 + key_bytes + 2;
  if (key_value.size() < value_at + 2 || byte_at(value_at - 2) != 0x12) return false;
  if (byte_at(value_at - 1) > kMost || byte_at(value_at - 1) != key_value.size() - value_at) return false;
  attribute.key = key_value.substr(2, key_bytes);
  if (!is_utf8(attribute.key)) return false;
  const std::string_view value = key_value.substr(value_at + 1);
  attribute.text = {};
  attribute.integer = 0;
  attribute.real = 0;
  switch (byte_at(value_at)) {
    case 0x0a:  // text
      attribute.type = Type::text;
      attribute.text = value.substr(1);
      return byte_at(value_at + 1) == attribute.text.size() && is_utf8(attribute.text);
    case 0x10:  // a boolean
      attribute.type = Type::boolean;
      attribute.integer = value[0] != 0 ? 1 : 0;
      return value.size() == 1 && byte_at(value_at + 1) <= kMost;
    case 0x18: {  // an integer
      std::string_view left = value;
      std::uint64_t integer = 0;
      if (!take_varint(left, integer)) return false;
      attribute.type = Type::integer;
      attribute.integer = static_cast<std::int64_t>(integer);
      return left.empty();
    }
    case 0x21:  // a real number
      if (value.size() != sizeof(attribute.real)) return false;
      attribute.type = Type::real;
      std::memcpy(&attribute.real, value.data(), sizeof(attribute.real));
      return true;
    default:
      return false;
  }
}

}  // namespace

bool read_attribute(std::string_view key_value, Attribute& attribute) {
  if (read_plain(key_value, attribute)) return true;
  attribute = {};
  return is_valid_key_value(key_value, 0, &attribute);
}

bool read_value(std::string_view any_value, Attribute& value) {
  value = {};
  return is_valid_value(any_value, 0, &value);
}

}  // namespace nopspan::collector
