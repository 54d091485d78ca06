// SPDX-License-Identifier: Apache-2.0
#include "model/service.h"

#include "base/text.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <system_error>

namespace nopspan::collector {
namespace {

std::string own_variable(const char* name) {
  constexpr std::size_t kMost = 4096;  // as of other processes
  const char* const value = std::getenv(name);
  return value != nullptr ? std::string(value, ::strnlen(value, kMost)) : "";
}

std::string percent_encoded(std::string_view text) {
  std::string encoded;
  for (const char c : text) {
    const bool is_plain = c > ' ' && c < 0x7f && std::strchr(",;=%", c) == nullptr;
    is_plain ? encoded += c : (encoded += '%') += hex_text({&c, 1});
  }
  return encoded;
}

}  // namespace

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string decoded;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded += text[i];
      continue;
    }
    unsigned byte = 0;
    const std::string_view digits = text.substr(i + 1, 2);
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), byte, 16);
    if (digits.size() != 2 || error != std::errc() || end != digits.data() + 2) return {};
    decoded += static_cast<char>(byte);
    i += 2;
  }
  return decoded;
}

std::optional<NamesAndValues> parse_list(std::string_view text) {
  NamesAndValues items;
  while (!text.empty()) {
    const std::string_view item = trimmed(take_before(text, ','));
    if (item.empty()) continue;
    const std::size_t equals = item.find('=');
    if (equals == std::string_view::npos) return {};
    const auto name = percent_decoded(trimmed(item.substr(0, equals)));
    const auto value = percent_decoded(trimmed(item.substr(equals + 1)));
    if (!name || name->empty() || !value) return {};
    const auto same = std::find_if(items.begin(), items.end(), [&](const auto& one) { return one.first == *name; });
    if (same != items.end()) {
      same->second = *value;
    } else {
      items.emplace_back(*name, *value);
    }
  }
  return items;
}

void set_service(Process& process, std::string service_name, std::string resource_attributes) {
  process.declared.clear();
  for (const auto& [name, value] : parse_list(resource_attributes).value_or(NamesAndValues())) {
    if (name == "service.name" && service_name.empty()) service_name = value;
    if (name.find('\0') != std::string::npos || value.find('\0') != std::string::npos) continue;
    ((process.declared += name) += '\0') += value;
    process.declared += '\0';
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

std::string_view resource_value(const Process& process, std::string_view key) {
  constexpr std::pair<std::string_view, std::string Process::*> kFound[] = {
      {"host.name", &Process::host},
      {"container.id", &Process::container},
      {"process.executable.path", &Process::executable},
      {"process.linux.cgroup", &Process::cgroup},
      {"telemetry.sdk.version", &Process::library_version}};
  if (key == "service.name") return service_of(process);
  if (key == "host") key = "host.name";
  const bool is_environment = key == "deployment.environment.name";
  std::string_view found, former;
  each_declared(process, [&](std::string_view name, std::string_view value) {
    if (name == key) found = value;
    if (is_environment && name == "deployment.environment") former = value;
  });
  if (found.empty()) found = former;
  for (const auto& [name, text] : kFound) {
    if (found.empty() && name == key) found = process.*text;
  }
  return found;
}

std::string service_path(const Process& process) {
  std::string path(resource_value(process, "service.namespace"));
  if (!path.empty()) path += '/';
  return path += service_of(process);
}

Process service_as_process(const Process& process) {
  Process service;
  std::string attributes;
  for (const std::string_view key : kServiceKeys) {
    const std::string_view value = resource_value(process, key);
    if (!value.empty()) (((attributes += key) += '=') += percent_encoded(value)) += ',';
  }
  set_service(service, std::string(service_of(process)), std::move(attributes));
  service.boot_id = process.boot_id;
  if (service.boot_id.empty()) service.host = process.host;
  return service;
}

Process resource_as_process(const Process& process) {
  Process resource;
  resource.service_name = service_of(process);
  resource.resource_attributes = process.resource_attributes;
  resource.declared = process.declared;
  resource.host = process.host;
  resource.boot_id = process.boot_id;
  resource.container = process.container;
  if (process.cgroup.find("kubepods") != std::string::npos) resource.cgroup = process.cgroup;  // it names the pod
  return resource;
}

std::string resource_identity(const Process& process) {
  std::string identity;
  const Process resource = resource_as_process(process);
  for (const auto text : kProcessTexts) (identity += resource.*text) += '\0';
  return identity;
}

std::string service_instance_id(const Process& process) {
  // The hash of request ids has 128 bits. The text is of no form that it treats specially.
  std::string identity = "service.instance.id " + (process.boot_id.empty() ? process.host : process.boot_id) + " " +
                         std::to_string(process.pid) + " " + std::to_string(process.start_ticks);
  if (process.instance != 0) (identity += " ") += std::to_string(process.instance);
  if (process.pid == 0) (identity += " ") += resource_identity(process);
  const TraceId hash = trace_id_of(identity);
  std::string id = hex_text({reinterpret_cast<const char*>(hash.bytes), sizeof(hash.bytes)});
  id[12] = '8';  // RFC 9562: a UUID of version 8 may have any content
  id[16] = "89ab"[hash.bytes[8] >> 4U & 3U];
  for (const std::size_t at : {8, 13, 18, 23}) id.insert(at, 1, '-');
  return id;
}

}  // namespace nopspan::collector
