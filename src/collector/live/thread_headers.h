// SPDX-License-Identifier: Apache-2.0
// Finds the threads of a process that write batches, in the process's memory, and fetches what they hold.
#pragma once

#include "host/process_reader.h"
#include "model/ledger.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// The threads of one copy of the library in a process. The memory may have any content; the work and the memory used
// are bounded.
class ThreadHeaders {
 public:
  struct Thread {
    std::uint64_t address = 0;
    nopspan_thread header{};
  };

  ThreadHeaders(const Target& process, std::uint64_t gate_address) : process_(process), gate_address_(gate_address) {}

  // Reads all headers. Returns false if the process could not be read; errno then has the reason.
  bool read();
  // The headers in use, as of the last read(). After a fork the parent's headers are in memory too, but not in use.
  [[nodiscard]] const std::vector<Thread>& threads() const { return threads_; }
  // What the library has dropped since its process began, as of the last read().
  [[nodiscard]] const Counts& dropped() const { return dropped_; }
  // Whether the process calls sites; see NOPSPAN_GATE_NO_SITES.
  [[nodiscard]] bool calls_sites() const { return calls_sites_; }
  // Whether there were more than 16,384 headers. The others are ignored.
  [[nodiscard]] bool too_many() const { return too_many_; }

  // Copies the entries that a thread holds, from the first one on. The thread does not take part. Returns false if the
  // thread has flushed them meanwhile or they cannot be read.
  bool fetch(const Thread& thread, std::string& bytes) const;
  // Whether the thread still holds these entries.
  [[nodiscard]] bool still_holds(const Thread& thread) const;

 private:
  Target process_;
  std::uint64_t gate_address_;
  std::vector<std::uint64_t> addresses_;  // all addresses: no header is ever removed from the list
  std::vector<Thread> threads_;
  Counts dropped_;
  bool too_many_ = false, calls_sites_ = true;
};

}  // namespace nopspan::collector
