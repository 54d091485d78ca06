// SPDX-License-Identifier: Apache-2.0
// A process as an OTLP Resource.
#pragma once

#include "export/exported_attributes.h"
#include "model/entry.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace nopspan::collector {

// Encodes a Resource. The process may name its service and add attributes (OTEL_SERVICE_NAME,
// OTEL_RESOURCE_ATTRIBUTES), but does not replace what nopspan knows of it. A text that is not UTF-8 is repaired, and
// counted in `repaired`.
std::string exported_resource(const Process& process, const ExportOptions& options, std::uint64_t& repaired);

// The value of service.instance.id, in the form of a UUID: the same for all entries of one process, and for no other
// process.
std::string service_instance_id(const Process& process);

// The uid of a Kubernetes pod from the path of a cgroup, as the API shows it. "" if the cgroup is not of a pod.
std::string pod_uid(std::string_view cgroup);

}  // namespace nopspan::collector
