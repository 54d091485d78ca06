// SPDX-License-Identifier: Apache-2.0
#include "attributes_json.h"

#include "text.h"

#include <nlohmann/json.hpp>
#include <protozero/pbf_reader.hpp>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;
using protozero::pbf_reader;
using protozero::pbf_wire_type;

// Field numbers of opentelemetry.proto.common.v1.
constexpr protozero::pbf_tag_type kKey = 1, kValue = 2;                                                  // KeyValue
constexpr protozero::pbf_tag_type kString = 1, kBool = 2, kInt = 3, kDouble = 4, kArray = 5, kList = 6;  // AnyValue
constexpr protozero::pbf_tag_type kBytes = 7;
constexpr protozero::pbf_tag_type kValues = 1;  // ArrayValue, KeyValueList

// A message that is nested too deeply is left where it is.
struct Reading {
  bool malformed = false;
};

Json real_json(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "Infinity" : "-Infinity";
  return value;
}

Json any_value_json(pbf_reader message, int depth, Reading& reading);

void add_key_value(Json& object, pbf_reader message, int depth, Reading& reading) {
  std::string key;
  Json value;
  while (message.next()) {
    if (message.tag_and_type() == protozero::tag_and_type(kKey, pbf_wire_type::length_delimited)) {
      key = std::string(message.get_view());
    } else if (message.tag_and_type() == protozero::tag_and_type(kValue, pbf_wire_type::length_delimited)) {
      value = any_value_json(message.get_message(), depth, reading);
    } else {
      message.skip();
    }
  }
  object.emplace(std::move(key), std::move(value));
}

Json list_json(pbf_reader message, bool of_key_values, int depth, Reading& reading) {
  Json items = of_key_values ? Json::object() : Json::array();
  while (message.next()) {
    if (message.tag_and_type() != protozero::tag_and_type(kValues, pbf_wire_type::length_delimited)) {
      message.skip();
    } else if (of_key_values) {
      add_key_value(items, message.get_message(), depth, reading);
    } else {
      items.push_back(any_value_json(message.get_message(), depth, reading));
    }
  }
  return items;
}

Json any_value_json(pbf_reader message, int depth, Reading& reading) {
  Json value;
  if (depth <= 0) {
    reading.malformed = true;
    return value;
  }
  while (message.next()) {
    switch (message.tag_and_type()) {
      case protozero::tag_and_type(kString, pbf_wire_type::length_delimited):
        value = std::string(message.get_view());
        break;
      case protozero::tag_and_type(kBool, pbf_wire_type::varint):
        value = message.get_uint64() != 0;  // get_bool() reads a byte that may not be there
        break;
      case protozero::tag_and_type(kInt, pbf_wire_type::varint):
        value = message.get_int64();
        break;
      case protozero::tag_and_type(kDouble, pbf_wire_type::fixed64):
        value = real_json(message.get_double());
        break;
      case protozero::tag_and_type(kArray, pbf_wire_type::length_delimited):
        value = list_json(message.get_message(), false, depth - 1, reading);
        break;
      case protozero::tag_and_type(kList, pbf_wire_type::length_delimited):
        value = list_json(message.get_message(), true, depth - 1, reading);
        break;
      case protozero::tag_and_type(kBytes, pbf_wire_type::length_delimited): {
        const protozero::data_view bytes = message.get_view();
        value = hex_text({bytes.data(), bytes.size()});
        break;
      }
      default:
        message.skip();
    }
  }
  return value;
}

}  // namespace

nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed) {
  Json object = Json::object();
  Reading reading;
  try {
    pbf_reader message{bytes.data(), bytes.size()};
    while (message.next()) {
      if (message.tag_and_type() == protozero::tag_and_type(field, pbf_wire_type::length_delimited)) {
        add_key_value(object, message.get_message(), kMaxAttributesDepth, reading);
      } else {
        reading.malformed = true;
        message.skip();
      }
    }
  } catch (const protozero::exception&) {
    reading.malformed = true;
  }
  malformed = malformed || reading.malformed;
  return object;
}

}  // namespace nopspan::collector
