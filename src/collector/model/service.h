// SPDX-License-Identifier: Apache-2.0
// The name of a process's service: OTEL_SERVICE_NAME of its environment, or else service.name in its
// OTEL_RESOURCE_ATTRIBUTES, or else its comm. And how OpenTelemetry's variables are read.
#pragma once

#include "model/entry.h"

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
// properties. Values are percent-decoded, and so are names. Empty items are ignored, and of equal names the last one
// counts. Returns nothing if any item is malformed: the specification then discards the whole text.
std::optional<NamesAndValues> parse_list(std::string_view text);

// Sets `service_name` and `resource_attributes` of the process. The arguments are the values of OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES, unchecked; "" if they are not set.
void set_service(Process& process, std::string service_name, std::string resource_attributes);
// The same for this program, with at most 4096 bytes of each variable.
void set_own_service(Process& process);

// The value of service.name. It is never empty.
std::string_view service_of(const Process& process);

}  // namespace nopspan::collector
