// SPDX-License-Identifier: Apache-2.0
// The name of a process's service: OTEL_SERVICE_NAME of its environment, or else service.name in its
// OTEL_RESOURCE_ATTRIBUTES, or else its comm.
#pragma once

#include "model/entry.h"

#include <string>
#include <string_view>

namespace nopspan::collector {

// Sets `service_name` and `resource_attributes` of the process. The arguments are the values of OTEL_SERVICE_NAME and
// OTEL_RESOURCE_ATTRIBUTES, unchecked; "" if they are not set.
void set_service(Process& process, std::string service_name, std::string resource_attributes);
// The same for this program, with at most 4096 bytes of each variable.
void set_own_service(Process& process);

// The value of service.name. It is never empty.
std::string_view service_of(const Process& process);

}  // namespace nopspan::collector
