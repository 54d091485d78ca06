// SPDX-License-Identifier: Apache-2.0
#include "model/attributes_json.h"

#include "base/text.h"
#include "model/otlp_attributes.h"

#include <nlohmann/json.hpp>

#include <cmath>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

Json real_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

// read_attribute() and read_value() reject values that are nested deeper than protobuf's decoders allow. The recursion
// is therefore bounded, and every nested item can be read.
Json value_json(const Attribute& attribute) {
  constexpr unsigned kItems = 1;  // the field of the items in ArrayValue and KeyValueList
  switch (attribute.type) {
    case Attribute::Type::none:
      return nullptr;
    case Attribute::Type::text:
      return std::string(attribute.text);
    case Attribute::Type::boolean:
      return attribute.integer != 0;
    case Attribute::Type::integer:
      return attribute.integer;
    case Attribute::Type::real:
      return real_json(attribute.real);
    case Attribute::Type::bytes:
      return hex_text(attribute.text);
    case Attribute::Type::list: {
      Json list = Json::array();
      for_each_key_value(attribute.text, kItems, [&](std::string_view item, std::string_view) {
        Attribute value;
        if (read_value(item, value)) list.push_back(value_json(value));
      });
      return list;
    }
    case Attribute::Type::map:
      break;
  }
  bool malformed = false;
  return attributes_json(attribute.text, kItems, malformed);
}

}  // namespace

nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed) {
  Json object = Json::object();
  const bool whole = for_each_key_value(bytes, field, [&](std::string_view key_value, std::string_view) {
    Attribute attribute;
    if (read_attribute(key_value, attribute)) {
      object.emplace(std::string(attribute.key), value_json(attribute));
    } else {
      malformed = true;
    }
  });
  malformed = malformed || !whole;
  return object;
}

}  // namespace nopspan::collector
