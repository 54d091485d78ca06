// SPDX-License-Identifier: Apache-2.0
#include "export/attribute_repair.h"

#include "base/utf8.h"
#include "export/message_fields.h"

namespace nopspan::collector {
namespace {

enum class Part : std::uint8_t { other, text, key_value, value, list, map };

Part part_in(Part message, std::uint32_t field) {
  if (message == Part::key_value) return field == 1 ? Part::text : field == 2 ? Part::value : Part::other;
  if (message == Part::value && field == 1) return Part::text;
  if (message == Part::value && field == 5) return Part::list;
  if (message == Part::value && field == 6) return Part::map;
  if (message == Part::list && field == 1) return Part::value;
  return message == Part::map && field == 1 ? Part::key_value : Part::other;
}

std::string repaired_part(Part part, std::string_view bytes, unsigned depth) {
  constexpr unsigned kMostNested = 100;
  if (part == Part::text) return replaced_utf8(bytes);
  std::string out;
  if (depth > kMostNested) return out;
  for_each_field(bytes, [&](std::uint32_t field, std::string_view inner, std::string_view whole) {
    const Part kind = part_in(part, field);
    if (kind == Part::other) {
      out += whole;
    } else {
      append_bytes(out, field, repaired_part(kind, inner, depth + 1));
    }
  });
  return out;
}

}  // namespace

std::string repaired_attribute(std::string_view key_value) {
  Attribute attribute;
  try {
    std::string repaired = repaired_part(Part::key_value, key_value, 0);
    return read_attribute(repaired, attribute) ? repaired : "";
  } catch (const protozero::exception&) {
    return "";
  }
}

}  // namespace nopspan::collector
