// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// An event on a place in a file, as `perf probe` or a hand writes it into tracefs' uprobe_events.
struct TraceEvent {
  std::string group, name;
  std::string file;
  std::uint64_t offset = 0;
  bool is_enabled = false;  // in tracefs itself; perf switches on its own events without that
};

// Where tracefs is mounted; "" if it is not, or may not be read.
std::string tracefs();

// What tracefs has, as far as it can be read.
std::vector<TraceEvent> uprobe_events();

}  // namespace nopspan::collector
