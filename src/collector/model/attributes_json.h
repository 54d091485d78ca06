// SPDX-License-Identifier: Apache-2.0
// Attributes as JSON: what a probe carries as protobuf bytes of OTLP, decoded.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string_view>

namespace nopspan::collector {

// `bytes` are fields of the number `field`, each a KeyValue (otlp_attributes.h). Returns an object: strings, booleans
// and numbers are what they are in JSON, lists arrays, maps objects; a value that is none is null, bytes are their
// hexadecimal digits, and a number that JSON does not have is its name ("NaN", "Infinity", "-Infinity", as in
// protobuf's JSON). Of a key that comes twice the first counts. What cannot be read is left out, and sets `malformed`.
nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed);

}  // namespace nopspan::collector
