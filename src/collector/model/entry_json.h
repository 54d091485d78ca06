// SPDX-License-Identifier: Apache-2.0
// Formats spans, events, retries, gauges and attributes as JSON. docs/recording.md describes the fields.
#pragma once

#include "model/entry.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// A span, event, retry or gauge as one object.
nlohmann::ordered_json to_json(const Entry& entry);

// Adds all fields except `type`, ids, process, thread and sequence.
void add_facts(nlohmann::ordered_json& json, const Entry& entry);
// "ok", "error", …
const char* status_name(std::uint8_t status);
// Adds the text unless it is empty.
void add_text(nlohmann::ordered_json& json, const char* key, std::string_view text);
// Hexadecimal digits as in a traceparent: 16 for a span id, 32 for a trace id.
std::string id_text(std::uint64_t id);
std::string id_text(const TraceId& id);

// Attributes as JSON. Probes carry them as protobuf bytes of OTLP: `bytes` is a sequence of fields with the number
// `field`, each a KeyValue (otlp_attributes.h). Returns an object.
// - Strings, booleans and numbers stay what they are, lists become arrays, and maps become objects.
// - An empty value becomes null, and bytes become hexadecimal digits.
// - Numbers that JSON does not have become strings, as in protobuf's JSON: "NaN", "Infinity", "-Infinity".
// - If a key occurs twice, the first value is used.
// - Fields that cannot be read are left out, and `malformed` is set.
nlohmann::ordered_json attributes_json(std::string_view bytes, unsigned field, bool& malformed);

// A number that is not an integer, as attributes_json() writes it.
nlohmann::ordered_json real_json(double value);

}  // namespace nopspan::collector
