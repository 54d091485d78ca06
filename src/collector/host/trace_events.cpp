// SPDX-License-Identifier: Apache-2.0
#include "host/trace_events.h"

#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace nopspan::collector {

std::string tracefs() {
  for (const char* folder : {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"})
    if (access((std::string(folder) + "/uprobe_events").c_str(), R_OK) == 0) return folder;
  return "";
}

std::vector<TraceEvent> uprobe_events() {
  std::vector<TraceEvent> events;
  const std::string folder = tracefs();
  if (folder.empty()) return events;
  std::ifstream file(folder + "/uprobe_events");
  // "p:sdt_nopspan/span_stop /usr/lib/libnopspan.so.0.2:0x0000000000049bd0(0x5f000) arg1=%di:u64"
  for (std::string line; std::getline(file, line);) {
    const std::size_t slash = line.find('/');
    const std::size_t space = line.find(' ');
    if (line.size() < 2 || line[1] != ':' || slash == std::string::npos || space == std::string::npos || slash > space)
      continue;
    const std::size_t offset = line.find(":0x", space);
    if (offset == std::string::npos) continue;
    TraceEvent event;
    event.group = line.substr(2, slash - 2);
    event.name = line.substr(slash + 1, space - slash - 1);
    event.file = line.substr(space + 1, offset - space - 1);
    event.offset = std::strtoull(line.c_str() + offset + 1, nullptr, 16);
    std::ifstream enabled(folder + "/events/" + event.group + "/" + event.name + "/enable");
    event.is_enabled = enabled.get() == '1';
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace nopspan::collector
