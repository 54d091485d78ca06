// SPDX-License-Identifier: Apache-2.0
// Reads the state of a copy of the library from its process: its gate, and the fields that follow in the gate's page,
// and the headers of its threads that write batches, and what these hold.
#pragma once

#include "host/process_reader.h"
#include "model/ledger.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
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

// Empty if the page cannot be read; errno then has the reason. The time is bounded, whatever a hostile process has
// written into its memory.
std::optional<LibraryView> view_library(const Target& process, std::uint64_t gate_address);

// LibraryView::gate alone, which is one read.
std::optional<GateCounters> read_gate(const Target& process, std::uint64_t gate_address);

// LibraryView::version alone, which is one read. "" if it cannot be read.
std::string library_version(const Target& process, std::uint64_t gate_address);

struct FoundThreads;

// The threads of one copy of the library in a process. The memory may have any content; the work and the memory used
// are bounded.
class ThreadHeaders {
 public:
  struct Thread {
    std::uint64_t address = 0;
    nopspan_thread header{};
  };

  // If there are more than `most` headers, the others are ignored.
  ThreadHeaders(const Target& process, std::uint64_t gate_address, std::size_t most = 16384)
      : process_(process), gate_address_(gate_address), most_(most) {}

  // Reads all headers. Returns false if the process could not be read; errno then has the reason.
  bool read();
  // The headers in use, as of the last read(). After a fork the parent's headers are in memory too, but not in use.
  [[nodiscard]] const std::vector<Thread>& threads() const { return threads_; }
  // What the library has dropped since its process began, as of the last read().
  [[nodiscard]] const Counts& dropped() const { return dropped_; }
  // Whether the process calls sites; see NOPSPAN_GATE_NO_SITES.
  [[nodiscard]] bool calls_sites() const { return calls_sites_; }
  // The gate, as of the last read().
  [[nodiscard]] const GateCounters& gate() const { return gate_; }
  // Whether headers were ignored.
  [[nodiscard]] bool too_many() const { return too_many_; }

  // Copies the entries that a thread holds, from the first one on. The thread does not take part. Returns false if the
  // thread has flushed them meanwhile or they cannot be read.
  bool fetch(const Thread& thread, std::string& bytes) const;
  // Whether the thread still holds these entries.
  [[nodiscard]] bool still_holds(const Thread& thread) const;

 private:
  friend std::optional<LibraryView> view_library(const Target& process, std::uint64_t gate_address);
  bool read(FoundThreads& found);

  Target process_;
  std::uint64_t gate_address_;
  std::size_t most_;
  std::vector<std::uint64_t> addresses_;  // all addresses: no header is ever removed from the list
  std::vector<Thread> threads_;
  Counts dropped_;
  GateCounters gate_;
  bool too_many_ = false, calls_sites_ = true;
};

}  // namespace nopspan::collector
