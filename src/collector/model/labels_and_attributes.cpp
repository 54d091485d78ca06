// SPDX-License-Identifier: Apache-2.0
#include "model/labels_and_attributes.h"

#include "model/entry_json.h"
#include "model/otlp_wire.h"

#include <nlohmann/json.hpp>

#include <charconv>
#include <cstdint>
#include <string>

namespace nopspan::collector {
namespace {

std::string_view written(std::int64_t value, NumberText& number) {
  const char* const end = std::to_chars(number.data(), number.data() + number.size(), value).ptr;
  return {number.data(), static_cast<std::size_t>(end - number.data())};
}

// As it is printed.
std::string_view written(double value, NumberText& number) {
  const nlohmann::ordered_json json = real_json(value);
  const std::string text = json.is_string() ? json.get<std::string>() : json.dump();
  return {number.data(), text.copy(number.data(), number.size())};
}

}  // namespace

std::string_view scalar_text(const Attribute& attribute, NumberText& number) {
  switch (attribute.type) {
    case Attribute::Type::text:
      return attribute.text;
    case Attribute::Type::boolean:
      return attribute.integer != 0 ? "true" : "false";
    case Attribute::Type::integer:
      return written(attribute.integer, number);
    case Attribute::Type::real:
      return written(attribute.real, number);
    default:
      return {};
  }
}

bool find_attribute(const Entry& entry, std::string_view key, Attribute& found) {
  bool is_found = false;
  for_each_key_value(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes,
                     [&](std::string_view key_value) {
                       // A search for the key is much faster than reading the attribute.
                       if (is_found || key_value.find(key) == std::string_view::npos) return;
                       is_found = read_attribute(key_value, found) && found.key == key;
                     });
  return is_found;
}

std::string_view label_or_attribute(const Entry& entry, std::string_view key, NumberText& number) {
  if (key == "model" && !entry.model.empty()) return entry.model;
  if (key == "tenant" && !entry.tenant.empty()) return entry.tenant;
  if (key == "engine" && !entry.engine.empty()) return entry.engine;
  Attribute attribute;
  return find_attribute(entry, key, attribute) ? scalar_text(attribute, number) : std::string_view();
}

}  // namespace nopspan::collector
