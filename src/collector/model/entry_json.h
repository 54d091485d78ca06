// SPDX-License-Identifier: Apache-2.0
// Formats a span, event, retry or gauge as one JSON object. docs/recording.md describes the fields.
#pragma once

#include "model/entry.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

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

}  // namespace nopspan::collector
