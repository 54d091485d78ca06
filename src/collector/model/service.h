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

// Sets `service_name`, `resource_attributes` and `declared` of the process. The arguments are the values of
// OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES, unchecked; "" if they are not set.
void set_service(Process& process, std::string service_name, std::string resource_attributes);
// The same for this program, with at most 4096 bytes of each variable.
void set_own_service(Process& process);

// The value of service.name. It is never empty.
std::string_view service_of(const Process& process);

// Calls `each(key, value)` for what the process's OTEL_RESOURCE_ATTRIBUTES declares. Nothing if it is malformed.
template <class Each>
void each_declared(const Process& process, const Each& each) {
  const auto take = [](std::string_view& rest) {
    const std::string_view text = rest.substr(0, rest.find('\0'));
    rest.remove_prefix(text.size() + 1);
    return text;
  };
  for (std::string_view rest = process.declared; !rest.empty();) {
    const std::string_view key = take(rest);
    each(key, take(rest));
  }
}

// The value of an attribute of the process's resource, or "": of service.name, of what it declares, or else of what
// nopspan knows of it. `host` is another name for host.name, and deployment.environment was the name of
// deployment.environment.name. The result refers to the process.
std::string_view resource_value(const Process& process, std::string_view key);

// A service is its namespace, its name and its environment. These are the keys of the two that not all processes
// declare.
inline constexpr std::string_view kServiceKeys[] = {"service.namespace", "deployment.environment.name"};
// "shop/checkout": the namespace, if it is declared, and the name.
std::string service_path(const Process& process);
// A process without a pid, with only what all processes of the service on a host have in common: no facts of a
// container or pod. It names the host by its boot id, because a container may have a name for the host.
Process service_as_process(const Process& process);

// Metrics are of all processes together that are on the same host, or in the same container, and declare the same.
// A process without a pid, with what all of these have in common.
Process resource_as_process(const Process& process);
// What distinguishes such a resource.
std::string resource_identity(const Process& process);

// The value of service.instance.id, in the form of a UUID: the same for all entries of one process, and for no other
// process. Of the resource of metrics (resource_as_process() and service_as_process()), it is the same for all of its
// processes on a host.
std::string service_instance_id(const Process& process);

}  // namespace nopspan::collector
