// SPDX-License-Identifier: Apache-2.0
// OTLP/JSON, made from the protobuf message. There is only one encoder for entries, so both forms are the same.
#pragma once

#include "model/entry.h"

#include <optional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Returns the JSON form of an Export…ServiceRequest, which is one line without an end of line: 64-bit integers are
// texts, ids of traces and spans hexadecimal, enums numbers, bytes Base64. Fields that the
// exporter does not write are left out. Returns nothing if `request` is malformed.
std::optional<std::string> otlp_json(Signal signal, std::string_view request);

}  // namespace nopspan::collector
