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
      const char* at = value.data();
      const char* const end = at + value.size();
      if (static_cast<unsigned char>(end[-1]) > kMost || value.size() > protozero::max_varint_length) return false;
      attribute.type = Type::integer;
      attribute.integer = static_cast<std::int64_t>(protozero::decode_varint(&at, end));
      return at == end;
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
  try {
    if (read_plain(key_value, attribute)) return true;
    attribute = {};
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

}  // namespace nopspan::collector
