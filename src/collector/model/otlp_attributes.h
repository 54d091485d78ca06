// SPDX-License-Identifier: Apache-2.0
// Reads and writes OTLP attributes: a sequence of protobuf KeyValues, each with the tag of the field that it is in.
#pragma once

#include <protozero/pbf_reader.hpp>

#include <cstdint>
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

// These append the parts of a message. In texts, "?" replaces bytes that are not UTF-8.
void append_varint(std::string& out, unsigned field, std::uint64_t value);
void append_fixed32(std::string& out, unsigned field, std::uint32_t value);
void append_fixed64(std::string& out, unsigned field, std::uint64_t value);
void append_bytes(std::string& out, unsigned field, std::string_view bytes);
// Appends the tag and the length of a field whose `bytes` bytes the caller appends next.
void append_length(std::string& out, unsigned field, std::size_t bytes);
void append_text(std::string& out, unsigned field, std::string_view text);

void append_text_attribute(std::string& out, unsigned field, std::string_view key, std::string_view text);
void append_integer_attribute(std::string& out, unsigned field, std::string_view key, std::int64_t value);
void append_bytes_attribute(std::string& out, unsigned field, std::string_view key, std::string_view bytes);

}  // namespace nopspan::collector
