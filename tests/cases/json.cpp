// SPDX-License-Identifier: Apache-2.0
#include "json.h"

#include <algorithm>

namespace cases {

void only_keys(const Json& object, std::string_view what, std::initializer_list<std::string_view> known) {
  if (!object.is_object()) throw Inexpressible(std::string(what) + " is no object: " + object.dump());
  for (const auto& [key, value] : object.items()) {
    if (std::find(known.begin(), known.end(), key) == known.end()) {
      throw Inexpressible("unknown key \"" + key + "\" in " + std::string(what));
    }
  }
}

const Json& required(const Json& object, std::string_view what, const std::string& key) {
  const auto found = object.find(key);
  if (found == object.end()) throw Inexpressible(std::string(what) + " has no \"" + key + "\"");
  return *found;
}

std::string required_string(const Json& object, std::string_view what, const std::string& key) {
  const Json& value = required(object, what, key);
  if (!value.is_string()) {
    throw Inexpressible("\"" + key + "\" of " + std::string(what) + " is no string: " + value.dump());
  }
  return value.get<std::string>();
}

Json optional(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

}  // namespace cases
