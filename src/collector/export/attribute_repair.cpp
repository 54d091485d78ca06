// SPDX-License-Identifier: Apache-2.0
#include "export/attribute_repair.h"

#include "base/utf8.h"
#include "model/otlp_wire.h"

#include <cstdint>
#include <optional>
#include <utility>

namespace nopspan::collector {
namespace {

enum class Part : std::uint8_t { other, text, key_value, value, list, map };

Part part_in(Part message, std::uint64_t field) {
  if (message == Part::key_value) return field == 1 ? Part::text : field == 2 ? Part::value : Part::other;
  if (message == Part::value && field == 1) return Part::text;
  if (message == Part::value && field == 5) return Part::list;
  if (message == Part::value && field == 6) return Part::map;
  if (message == Part::list && field == 1) return Part::value;
  return message == Part::map && field == 1 ? Part::key_value : Part::other;
}

// Returns nothing if it is malformed.
std::optional<std::string> repaired_part(Part part, std::string_view bytes, unsigned depth) {
  constexpr unsigned kMostNested = 100;
  if (part == Part::text) return replaced_utf8(bytes);
  if (depth > kMostNested) return std::nullopt;
  std::string out;
  ProtobufFields fields(bytes);
  while (fields.next()) {
    const Part kind = fields.type() == ProtobufType::delimited ? part_in(part, fields.number()) : Part::other;
    if (kind == Part::other) {
      out += fields.whole();
      continue;
    }
    const auto repaired = repaired_part(kind, fields.bytes(), depth + 1);
    if (!repaired) return std::nullopt;
    append_bytes(out, static_cast<unsigned>(fields.number()), *repaired);
  }
  return fields.is_valid() ? std::optional(std::move(out)) : std::nullopt;
}

}  // namespace

std::string repaired_attribute(std::string_view key_value) {
  Attribute attribute;
  const auto repaired = repaired_part(Part::key_value, key_value, 0);
  return repaired && read_attribute(*repaired, attribute) ? *repaired : "";
}

}  // namespace nopspan::collector
