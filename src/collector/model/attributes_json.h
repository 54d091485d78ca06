// SPDX-License-Identifier: Apache-2.0
// Converts attributes to JSON. Probes carry attributes as protobuf bytes of OTLP.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string_view>

namespace nopspan::collector {

// `bytes` is a sequence of fields with the number `field`, each a KeyValue (otlp_attributes.h). Returns an object.
// - Strings, booleans and numbers stay what they are, lists become arrays, and maps become objects.
// - An empty value becomes null, and bytes become hexadecimal digits.
// - Numbers that JSON does not have become strings, as in protobuf's JSON: "NaN", "Infinity", "-Infinity".
// - If a key occurs twice, the first value is used.
// - Fields that cannot be read are left out, and `malformed` is set.
nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed);

}  // namespace nopspan::collector
