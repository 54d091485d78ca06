// SPDX-License-Identifier: Apache-2.0
// JSON of a JsonWriter. Its bytes must be those that nlohmann's library writes.
#pragma once

#include "base/json_writer.h"
#include "model/entry_json.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <string_view>

namespace nopspan::collector {

inline nlohmann::ordered_json parsed(const JsonWriter& writer) {
  const auto json = nlohmann::ordered_json::parse(writer.text());
  EXPECT_EQ(json.dump(), writer.text());
  return json;
}

inline nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed) {
  JsonWriter json;
  write_attributes(json, bytes, field, malformed);
  return parsed(json);
}

}  // namespace nopspan::collector
