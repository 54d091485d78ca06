// SPDX-License-Identifier: Apache-2.0
// Lists of names and values in OpenTelemetry's variables.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

using NamesAndValues = std::vector<std::pair<std::string, std::string>>;

// Replaces %XX by bytes. Returns nothing if two hexadecimal digits do not follow a %.
std::optional<std::string> percent_decoded(std::string_view text);

// Parses "a=1,b=%20", as in OTEL_RESOURCE_ATTRIBUTES and OTEL_EXPORTER_OTLP_HEADERS: the form of W3C's baggage without
// properties. Values are percent-decoded, and so are names. Empty members are ignored, and of equal names the last one
// counts. Returns nothing if any member is malformed: the specification then discards the whole text.
std::optional<NamesAndValues> parse_members(std::string_view text);

}  // namespace nopspan::collector
