// SPDX-License-Identifier: Apache-2.0
// Attributes as JSON: what a probe carries as protobuf bytes of OTLP, decoded.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string_view>

namespace nopspan::collector {

// `bytes` are fields of the number `field`, each an opentelemetry.proto.common.v1.KeyValue. Returns an object: strings,
// booleans and numbers are what they are in JSON, arrays lists, kvlists objects; no value is null, bytes their
// hexadecimal digits, a number that JSON does not have its name ("NaN", "Infinity", "-Infinity", as in protobuf's
// JSON). Of a key that comes twice the first counts. Sets `malformed` if something was not as it should be, or deeper
// than kMaxAttributesDepth: what could be read up to there is returned.
inline constexpr int kMaxAttributesDepth = 64;
nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed);

// Span::attributes of a span, and of an event or retry.
inline constexpr unsigned kSpanAttributesField = 9, kEventAttributesField = 3;

}  // namespace nopspan::collector
