// SPDX-License-Identifier: Apache-2.0
#include "host/obstacles.h"

#include "base/text.h"
#include "host/library_view.h"

#include <cstddef>
#include <map>

namespace nopspan::collector {

// Measured with Linux 6.18, for mappings that fork has not copied.
std::uint64_t attach_ns(const Host::Mapper& mapper) {
  constexpr std::uint64_t kMappingNs = 10'000, kStepNs = 30;
  return mapper.mappings * (kMappingNs + mapper.all_mappings * kStepNs);
}

bool is_crowd(const Host::Mapper& mapper) {
  return mapper.mappings > kMostMappings || attach_ns(mapper) > kMostAttachNs;
}

std::string crowd_text(const Host::Mapper& mapper) {
  return "it maps the file " + std::to_string(mapper.mappings) +
         (mapper.mappings > kMostMappings ? " times"
                                          : " times among " + std::to_string(mapper.all_mappings) + " mappings") +
         ", so an attach would stop all forks on this host";
}

const char* const kCallsNoSites =
    "it runs under Valgrind, which would end it at a breakpoint. So it reaches no probe, and its spans are not seen";

std::vector<Unattached> find_obstacles(Host& host) {
  std::vector<Unattached> obstacles;
  for (const Host::Found& found : host.files()) {
    for (const Host::Mapper& mapper : host.mappers(*found.file)) {
      if (is_crowd(mapper)) obstacles.push_back({found.path, mapper.pid, mapper.comm, crowd_text(mapper)});
    }
  }
  for (const std::uint32_t pid : host.pids()) {
    for (const Host::Copy& copy : host.copies(pid)) {
      if (copy.gate_address == 0) continue;
      const auto gate = read_gate({pid, host.process(pid)->start_ticks}, copy.gate_address);
      const std::string negative = gate ? gate->negative() : "";
      if (negative.empty()) continue;
      obstacles.push_back({copy.path, pid, host.process(pid)->comm,
                           "it has made its semaphore negative (" + negative +
                               "), so the kernel refuses to attach to the file in all processes together"});
    }
  }
  return obstacles;
}

std::vector<Unattached> find_twins(Host& host) {
  std::vector<Unattached> twins;
  for (const std::uint32_t pid : host.pids()) {
    std::map<const ProbeFile*, std::size_t> gates;
    for (const Host::Copy& copy : host.copies(pid)) {
      if (copy.gate_address == 0 || ++gates[copy.file.get()] != 2) continue;
      twins.push_back({copy.path, pid, host.process(pid)->comm,
                       "it has loaded the file more than once, perhaps by dlmopen(), and the kernel raises the gate of "
                       "one copy only: spans of the others are not seen"});
    }
  }
  return twins;
}

std::vector<Unattached> find_written_to(Host& host) {
  std::vector<Unattached> processes;
  for (const Host::Found& found : host.written_files()) {
    for (const Host::Mapper& mapper : host.mappers(*found.file))
      processes.push_back({found.path, mapper.pid, mapper.comm,
                           "a program opened the file for writing, and it is not attached to meanwhile"});
  }
  return processes;
}

std::string text_of(const Unattached& one) {
  return "nopspan: process " + std::to_string(one.pid) + " (" + printable(one.comm) + ") and " + printable(one.path) +
         ": " + one.why;
}

}  // namespace nopspan::collector
