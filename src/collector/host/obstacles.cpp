// SPDX-License-Identifier: Apache-2.0
#include "host/obstacles.h"

#include "base/text.h"
#include "host/library_view.h"

namespace nopspan::collector {

std::string too_many_mappings_text(std::uint64_t mappings) {
  return "it maps the file " + std::to_string(mappings) + " times, so an attach would stop all forks on this host";
}

std::vector<Unattached> find_obstacles(Host& host) {
  std::vector<Unattached> obstacles;
  for (const Host::Found& found : host.files()) {
    for (const Host::Mapper& mapper : host.mappers(*found.file)) {
      if (mapper.mappings <= kMostMappings) continue;
      obstacles.push_back({found.path, mapper.pid, mapper.comm, too_many_mappings_text(mapper.mappings)});
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

std::string obstacles_text(const std::vector<Unattached>& obstacles) {
  std::string text;
  for (const Unattached& one : obstacles) {
    text += "nopspan: process " + std::to_string(one.pid) + " (" + printable(one.comm) + ") and " +
            printable(one.path) + ": " + one.why + ". nopspan attaches to the others alone\n";
  }
  return text;
}

}  // namespace nopspan::collector
