// SPDX-License-Identifier: Apache-2.0
// What a copy of the library in a process tells of itself: its gate, and what follows it in the gate's page.
#pragma once

#include <nopspan/probes.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

// The parts of the gate (probes/README.md). Not 0: somebody listens; the value is no count of tracers.
struct GateCounters {
  std::uint16_t spans = 0, batch = 0;
  std::uint8_t span_handlers = 0, point_handlers = 0;
  std::uint16_t points = 0;

  static GateCounters of(std::uint64_t word);
  [[nodiscard]] std::vector<std::pair<const char*, unsigned>> by_name() const;
};

struct LibraryView {
  GateCounters gate;
  std::uint64_t abi_version = 0;
  std::string version;                                        // "" if it does not tell
  bool is_whole = false;                                      // the rest is known
  std::uint64_t memory_bytes = 0;                             // held for batches by all threads
  std::uint64_t threads = 0;                                  // that have a header and live
  std::uint64_t held_entries = 0;                             // in their buffers, handed to nobody yet
  std::vector<std::pair<std::string, std::uint64_t>> counts;  // of nopspan::Stats, those that are not 0
};

// Reads it from the process. Empty if that cannot be done: errno says why. What a hostile process wrote there costs a
// bounded time.
std::optional<LibraryView> view_library(std::uint32_t pid, std::uint64_t gate_address);

}  // namespace nopspan::collector
