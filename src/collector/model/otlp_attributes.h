// SPDX-License-Identifier: Apache-2.0
// Attributes as OTLP has them: protobuf KeyValues, one after the other, each with the tag of the field that it is in.
#pragma once

#include <protozero/pbf_reader.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Fields of the messages in which KeyValues are.
inline constexpr unsigned kSpanAttributes = 9, kEventAttributes = 3, kLogAttributes = 6, kPointAttributes = 7;
inline constexpr unsigned kResourceAttributes = 1, kScopeAttributes = 3;

// The bytes of a field that is a message, a text or bytes.
inline std::string_view view_of(protozero::pbf_reader& reader) {
  const protozero::data_view view = reader.get_view();
  return {view.data(), view.size()};
}

struct Attribute {
  enum class Type : std::uint8_t { none, text, boolean, integer, real, list, map, bytes };

  std::string_view key;
  Type type = Type::none;
  std::string_view text;  // of a list or map its message
  std::int64_t integer = 0;
  double real = 0;
};

// The attribute that a KeyValue's bytes are. False if they are none that every receiver would take: wrong protobuf,
// text that is not UTF-8, or deeper than protobuf's decoders go.
bool read_attribute(std::string_view key_value, Attribute& attribute);
// An AnyValue's: all but the key.
bool read_value(std::string_view any_value, Attribute& value);

// Calls `each(key_value, whole)` for each field of number `field` in a run of such; `whole` is with its tag and length.
// False where it meets something else; what comes before it has been given.
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

// Append a message's parts. Text that is not UTF-8 is mended.
void append_varint(std::string& out, unsigned field, std::uint64_t value);
void append_fixed32(std::string& out, unsigned field, std::uint32_t value);
void append_fixed64(std::string& out, unsigned field, std::uint64_t value);
void append_bytes(std::string& out, unsigned field, std::string_view bytes);
// What comes before `bytes` bytes that the caller appends.
void append_length(std::string& out, unsigned field, std::size_t bytes);
void append_text(std::string& out, unsigned field, std::string_view text);

void append_text_attribute(std::string& out, unsigned field, std::string_view key, std::string_view text);
void append_integer_attribute(std::string& out, unsigned field, std::string_view key, std::int64_t value);
void append_bytes_attribute(std::string& out, unsigned field, std::string_view key, std::string_view bytes);

}  // namespace nopspan::collector
