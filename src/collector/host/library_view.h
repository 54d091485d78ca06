// SPDX-License-Identifier: Apache-2.0
// Reads the state of a copy of the library from its process: its gate, and the fields that follow in the gate's page.
#pragma once

#include "host/process_reader.h"
#include "model/ledger.h"

#include <nopspan/probes.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace nopspan::collector {

// The parts of the gate (probes/README.md). Only zero or non-zero is meaningful; a value does not count tracers.
struct GateCounters {
  std::uint16_t spans = 0, batch = 0;
  std::uint8_t span_handlers = 0, point_handlers = 0;
  std::uint16_t points = 0;

  static GateCounters of(std::uint64_t word);
  [[nodiscard]] std::vector<std::pair<const char*, unsigned>> by_name() const;
  // The semaphores that are negative as a signed number, "spans, batch". The kernel then refuses to attach. "" if none.
  [[nodiscard]] std::string negative() const;
};

struct LibraryView {
  GateCounters gate;
  std::string version;                                        // "" if the page has none
  bool is_whole = false;                                      // the page has the fields below
  bool calls_sites = true;                                    // see NOPSPAN_GATE_NO_SITES
  bool is_prepared = false;                                   // it has recorded a span, or prepare() was called
  std::uint64_t memory_bytes = 0;                             // held by all threads for batches
  std::uint64_t threads = 0;                                  // live threads that have a header
  std::uint64_t held_entries = 0;                             // in their buffers, not flushed yet
  std::vector<std::pair<std::string, std::uint64_t>> counts;  // the fields of nopspan::Stats that are not 0
  std::vector<std::string> warnings;                          // of the library, for which there was no log sink
};

// The counts of nopspan::Stats that the library has at this address. Zero where it has fewer, and where they cannot be
// read. Call it in the child that reads.
inline constexpr std::size_t kLibraryCounts = 30;
using LibraryCounts = std::array<std::uint64_t, kLibraryCounts>;
LibraryCounts read_counts_here(std::uint32_t pid, const nopspan_gate_page& page);
// See NOPSPAN_GATE_NO_SITES.
bool calls_sites(const nopspan_gate_page& page);
// What the library has dropped of them, as a ledger counts it.
Counts drops_of(const LibraryCounts& counts);

// Reads the list of threads' headers in the child that reads. Calls `on_header` for each header from `first` on, and
// adds its address to `seen`. Ends at an address that is in `seen` or cannot be read, so a list that contains itself
// ends. Also ends when `seen` has `most` addresses. Returns false then.
bool for_each_thread(std::uint32_t pid, std::uint64_t first, std::size_t most, std::unordered_set<std::uint64_t>& seen,
                     const std::function<void(std::uint64_t address, const nopspan_thread& header)>& on_header);

// Empty if the page cannot be read; errno then has the reason. The time is bounded, whatever a hostile process has
// written into its memory.
std::optional<LibraryView> view_library(const Target& process, std::uint64_t gate_address);

// LibraryView::gate alone, which is one read.
std::optional<GateCounters> read_gate(const Target& process, std::uint64_t gate_address);

// LibraryView::version alone, which is one read. "" if it cannot be read.
std::string library_version(const Target& process, std::uint64_t gate_address);

}  // namespace nopspan::collector
