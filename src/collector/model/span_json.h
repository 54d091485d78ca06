// SPDX-License-Identifier: Apache-2.0
// A span, event, retry or gauge as one JSON object. docs/recording.md says what the fields mean.
#pragma once

#include "model/span.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

nlohmann::ordered_json to_json(const Span& span);

// The parts of it: all but `type`, ids, process, thread and stream.
void add_facts(nlohmann::ordered_json& json, const Span& span);
// "ok", "error", …
const char* status_name(std::uint8_t status);
// Unless it is empty.
void add_text(nlohmann::ordered_json& json, const char* key, std::string_view text);
// As in a traceparent: 16 and 32 hexadecimal digits.
std::string id_text(std::uint64_t id);
std::string id_text(const TraceId& id);

}  // namespace nopspan::collector
