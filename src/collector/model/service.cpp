// SPDX-License-Identifier: Apache-2.0
#include "model/service.h"

#include "model/members.h"

#include <cstdlib>
#include <cstring>
#include <utility>

namespace nopspan::collector {
namespace {

std::string own_variable(const char* name) {
  constexpr std::size_t kMost = 4096;  // as of other processes
  const char* const value = std::getenv(name);
  return value != nullptr ? std::string(value, ::strnlen(value, kMost)) : "";
}

}  // namespace

void set_service(Process& process, std::string service_name, std::string resource_attributes) {
  if (service_name.empty()) {
    for (auto& [name, value] : parse_members(resource_attributes).value_or(NamesAndValues())) {
      if (name == "service.name") service_name = std::move(value);
    }
  }
  process.service_name = std::move(service_name);
  process.resource_attributes = std::move(resource_attributes);
}

void set_own_service(Process& process) {
  set_service(process, own_variable("OTEL_SERVICE_NAME"), own_variable("OTEL_RESOURCE_ATTRIBUTES"));
}

std::string_view service_of(const Process& process) {
  if (!process.service_name.empty()) return process.service_name;
  return process.comm.empty() ? std::string_view("unknown_service") : std::string_view(process.comm);
}

}  // namespace nopspan::collector
