// SPDX-License-Identifier: Apache-2.0
// Reads the uprobe events of tracefs.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// An event at a place in a file, written to tracefs' uprobe_events by `perf probe` or by hand.
struct TraceEvent {
  std::string group, name;
  std::string file;
  std::uint64_t offset = 0;
  bool is_enabled = false;  // in tracefs; perf enables its own events without it
};

// The mount point of tracefs; "" if it is not mounted or not readable.
std::string tracefs();

// The events in tracefs, as far as they can be read.
std::vector<TraceEvent> uprobe_events();

}  // namespace nopspan::collector
