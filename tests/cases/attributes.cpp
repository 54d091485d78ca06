// SPDX-License-Identifier: Apache-2.0
#include "attributes.h"

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>
#include <vector>

#include "values.h"

namespace cases {
namespace {

constexpr double kNear = 1e-9;

std::string own_key(const std::string& key) {
  constexpr std::string_view kTheirs = "req_llm.";
  return key.compare(0, kTheirs.size(), kTheirs) == 0 ? "nopspan." + key.substr(kTheirs.size()) : key;
}

std::string type_of(const nopspan::Value& value) {
  using Type = nopspan::Value::Type;
  switch (value.type()) {
    case Type::null:
      return "null";
    case Type::boolean:
      return "bool";
    case Type::integer:
      return "int";
    case Type::real:
      return "double";
    case Type::string:
      return "string";
    case Type::list: {
      const auto& list = value.as_list();
      const bool strings =
          std::all_of(list.begin(), list.end(), [](const auto& item) { return item.type() == Type::string; });
      return strings ? "string[]" : "list";
    }
    case Type::map:
      return "map";
  }
  return "unknown";
}

// An error is an exception or a map. Both are maps here.
Json as_map(const Json& error) {
  if (!error.is_object() || error.size() != 1) return error;
  if (error.contains("$map")) return error["$map"];
  if (!error.contains("$exception")) return error;
  const Json& exception = error["$exception"];
  only_keys(exception, "an exception", {"type", "message"});
  required_string(exception, "an exception", "type");
  required_string(exception, "an exception", "message");
  return exception;
}

}  // namespace

void check_genai_case(const Json& one_case) {
  only_keys(one_case, "a case", {"id", "function", "source", "variant", "input", "expected", "note", "tags"});
  const Json variant = optional(one_case, "variant");
  if (!variant.is_null() && variant != "both" && variant != "B") throw Inexpressible("variant: " + variant.dump());
}

nopspan::Value to_metadata(const Json& input) {
  if (!input.is_object()) throw Inexpressible("metadata is no object: " + input.dump());
  Json metadata = input;
  const Json unit = optional(metadata, "native_unit");
  if (!unit.is_null() && unit != "ns") throw Inexpressible("native_unit: " + unit.dump());
  metadata.erase("native_unit");
  if (metadata.contains("error")) metadata["error"] = as_map(metadata["error"]);
  return to_value(metadata);
}

Json nearly(const Json& expected, Json seen) {
  if (expected.is_number_float() && seen.is_number_float()) {
    const double difference = expected.get<double>() - seen.get<double>();
    return std::abs(difference) <= kNear ? expected : seen;
  }
  if (expected.is_object() && seen.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      if (seen.contains(key)) seen[key] = nearly(value, seen[key]);
    }
  } else if (expected.is_array() && seen.is_array()) {
    for (std::size_t i = 0; i < std::min(expected.size(), seen.size()); ++i) seen[i] = nearly(expected[i], seen[i]);
  }
  return seen;
}

Json with_own_prefix(const Json& attributes) {
  if (!attributes.is_object()) throw Inexpressible("attributes are no object: " + attributes.dump());
  Json renamed = Json::object();
  for (const auto& [key, value] : attributes.items()) renamed[own_key(key)] = value;
  return renamed;
}

void check_attributes(const Json& expected, std::initializer_list<std::string_view> more) {
  std::vector<std::string_view> known = {"attributes", "types", "key_order", "exact"};
  known.insert(known.end(), more.begin(), more.end());
  if (!expected.is_object()) throw Inexpressible("no expectation: " + expected.dump());
  for (const auto& [key, value] : expected.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) throw Inexpressible("unknown key \"" + key + "\"");
  }
  with_own_prefix(required(expected, "an expectation", "attributes"));
  if (expected.contains("types")) with_own_prefix(expected["types"]);
  if (expected.contains("key_order") && !expected["key_order"].is_array()) {
    throw Inexpressible("key_order: " + expected["key_order"].dump());
  }
  const Json exact = optional(expected, "exact");
  if (!exact.is_null() && exact != true) throw Inexpressible("exact: " + exact.dump());
}

void compare_attributes(const Json& expected, const nopspan::Value& seen, Comparison& comparison) {
  const Json attributes = with_own_prefix(expected["attributes"]);
  comparison.add("attributes", attributes, nearly(attributes, to_json(seen)));
  comparison.add("number of attributes", attributes.size(), seen.as_map().size());
  if (expected.contains("types")) {
    Json types = Json::object();
    for (const auto& [key, value] : seen.as_map()) types[key] = type_of(value);
    comparison.add("types", with_own_prefix(expected["types"]), types);
  }
  if (expected.contains("key_order")) {
    Json wanted = Json::array();
    for (const Json& key : expected["key_order"]) wanted.push_back(key.is_string() ? Json(own_key(key)) : key);
    Json keys = Json::array();
    for (const auto& entry : seen.as_map()) keys.push_back(entry.first);
    comparison.add("key_order", wanted, keys);
  }
}

void compare_value(const Json& expected, const nopspan::Value& seen, Comparison& comparison) {
  comparison.add("value", expected["value"], nearly(expected["value"], to_json(seen)));
}

}  // namespace cases
