// SPDX-License-Identifier: Apache-2.0
// Walks a protobuf message without a table of its fields.
#pragma once

#include "model/otlp_attributes.h"

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::collector {

// Calls `each(number, bytes, whole)` for each field. `whole` includes tag and value. `number` is 0 unless the field is
// a message, a string or bytes. Throws protozero::exception if the message is malformed.
template <class Each>
void for_each_field(std::string_view message, const Each& each) {
  protozero::pbf_reader reader(message.data(), message.size());
  const char* begin = message.data();
  while (reader.next()) {
    std::uint32_t number = 0;
    std::string_view bytes;
    if (reader.wire_type() == protozero::pbf_wire_type::length_delimited) {
      number = reader.tag();
      bytes = view_of(reader);
    } else {
      reader.skip();
    }
    const char* const end = reader.data().data();
    each(number, bytes, std::string_view(begin, static_cast<std::size_t>(end - begin)));
    begin = end;
  }
}

}  // namespace nopspan::collector
