// SPDX-License-Identifier: Apache-2.0
#include "values.h"

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <utility>

namespace cases {

nopspan::Value to_value(const Json& json) {
  switch (json.type()) {
    case Json::value_t::boolean:
      return json.get<bool>();
    case Json::value_t::number_integer:
      return json.get<std::int64_t>();
    case Json::value_t::number_unsigned:
      return json.get<std::uint64_t>();
    case Json::value_t::number_float:
      return json.get<double>();
    case Json::value_t::string:
      return json.get_ref<const std::string&>();
    case Json::value_t::array: {
      nopspan::Value::List list;
      for (const Json& item : json) list.push_back(to_value(item));
      return list;
    }
    case Json::value_t::object: {
      nopspan::Value::Map map;
      for (const auto& [key, item] : json.items()) map.emplace_back(key, to_value(item));
      return map;
    }
    default:
      return {};
  }
}

Json to_json(const nopspan::Value& value) {
  using Type = nopspan::Value::Type;
  switch (value.type()) {
    case Type::null:
      return nullptr;
    case Type::boolean:
      return value.as_bool();
    case Type::integer:
      return value.as_int();
    case Type::real:
      return value.as_double();
    case Type::string:
      return std::string(value.as_string());
    case Type::list: {
      Json list = Json::array();
      for (const nopspan::Value& item : value.as_list()) list.push_back(to_json(item));
      return list;
    }
    case Type::map: {
      Json map = Json::object();
      for (const auto& [key, item] : value.as_map()) map[key] = to_json(item);
      return map;
    }
  }
  throw std::logic_error("a value of no type");
}

Json as_returned(nopspan::Errc error) {
  if (error == nopspan::Errc::ok) return "ok";
  if (error == nopspan::Errc::already_exists) return {{"error", "already_exists"}};
  if (error == nopspan::Errc::not_found) return {{"error", "not_found"}};
  if (error == nopspan::Errc::invalid_argument) return {{"raises", "badarg"}};
  return {{"error", nopspan::describe(error)}};
}

std::string dotted_name(const Json& name) {
  check(name, "name");
  std::string dotted;
  if (name.is_string()) {
    dotted = name.get<std::string>();
  } else {
    for (const Json& segment : name) dotted += (dotted.empty() ? "" : ".") + segment.get<std::string>();
  }
  const std::string first = dotted.substr(0, dotted.find('.'));
  if (first == "allm") return "llm" + dotted.substr(first.size());
  if (first == "beamlens") return "agent" + dotted.substr(first.size());
  return dotted;
}

Json dotted_names(const Json& names) {
  Json dotted = Json::array();
  for (const Json& name : names) dotted.push_back(dotted_name(name));
  return dotted;
}

Json with_dotted_events(Json json) {
  const auto is_string = [](const Json& item) { return item.is_string(); };
  const auto is_name = [&](const Json& item) {
    return item.is_string() || (item.is_array() && std::all_of(item.begin(), item.end(), is_string));
  };
  if (json.is_object()) {
    for (const auto& [key, item] : json.items()) {
      const bool is_event = (key == "event" || key == "event_name") && is_name(item);
      item = is_event ? Json(dotted_name(item)) : with_dotted_events(std::move(item));
    }
  } else if (json.is_array()) {
    for (Json& item : json) item = with_dotted_events(std::move(item));
  }
  return json;
}

void set_metadata(nopspan::Fields& fields, const Json& metadata) {
  for (const auto& [key, value] : metadata.items()) fields.set(key, to_value(value));
}

void set_measurements(nopspan::Fields& fields, const Json& measurements) {
  for (const auto& [key, number] : measurements.items()) {
    if (number.is_number_float()) {
      fields.measure(key, number.get<double>());
    } else {
      fields.measure(key, number.get<std::int64_t>());
    }
  }
}

}  // namespace cases
