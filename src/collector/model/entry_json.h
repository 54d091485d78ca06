// SPDX-License-Identifier: Apache-2.0
// Formats spans, events, retries, gauges and attributes as JSON. docs/recording.md describes the fields.
#pragma once

#include "base/json_writer.h"
#include "model/entry.h"
#include "model/otlp_wire.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// A span, event, retry or gauge as one object.
void write_json(JsonWriter& json, const Entry& entry);

// Writes all fields except `type`, ids, process, thread and sequence.
void write_facts(JsonWriter& json, const Entry& entry);
// "ok", "error", …
const char* status_name(std::uint8_t status);
// Writes `trace_id`.
void write_id(JsonWriter& json, const TraceId& id);
// Adds the text unless it is empty.
void add_text(nlohmann::ordered_json& json, const char* key, std::string_view text);
// Hexadecimal digits as in a traceparent: 16 for a span id, 32 for a trace id.
std::string id_text(std::uint64_t id);
// What id_text() has made; 0 for any other text.
std::uint64_t id_of(std::string_view text);
std::string id_text(const TraceId& id);

// Attributes as JSON. Probes carry them as protobuf bytes of OTLP: `bytes` is a sequence of fields with the number
// `field`, each a KeyValue (otlp_wire.h). Writes an object.
// - Strings, booleans and numbers stay what they are, lists become arrays, and maps become objects.
// - An empty value becomes null, and bytes become hexadecimal digits.
// - Numbers that JSON does not have become strings, as in protobuf's JSON: "NaN", "Infinity", "-Infinity".
// - If a key occurs twice, the first value is used.
// - Fields that cannot be read are left out, and `malformed` is set.
void write_attributes(JsonWriter& json, std::string_view bytes, unsigned field, bool& malformed);
// Writes the value of one attribute.
void write_value(JsonWriter& json, const Attribute& attribute);
// Calls `each(attribute)` for those attributes.
void for_each_attribute(std::string_view bytes, unsigned field, bool& malformed,
                        const std::function<void(const Attribute&)>& each);

// A number that is not an integer, as write_attributes() writes it.
nlohmann::ordered_json real_json(double value);

}  // namespace nopspan::collector
