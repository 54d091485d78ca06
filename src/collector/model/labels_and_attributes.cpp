// SPDX-License-Identifier: Apache-2.0
#include "model/labels_and_attributes.h"

#include "model/otlp_attributes.h"

#include <charconv>

namespace nopspan::collector {
namespace {

template <typename Number>
std::string_view written(Number value, NumberText& number) {
  const auto end = std::to_chars(number.data(), number.data() + number.size(), value).ptr;
  return {number.data(), static_cast<std::size_t>(end - number.data())};
}

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

}  // namespace

std::string_view label_or_attribute(const Entry& entry, std::string_view key, NumberText& number) {
  if (key == "model" && !entry.model.empty()) return entry.model;
  if (key == "tenant" && !entry.tenant.empty()) return entry.tenant;
  if (key == "engine" && !entry.engine.empty()) return entry.engine;
  std::string_view found;
  for_each_key_value(entry.attributes, entry.kind == Kind::span ? kSpanAttributes : kEventAttributes,
                     [&](std::string_view key_value, std::string_view) {
                       Attribute attribute;
                       if (read_attribute(key_value, attribute) && attribute.key == key) {
                         found = scalar_text(attribute, number);
                       }
                     });
  return found;
}

}  // namespace nopspan::collector
