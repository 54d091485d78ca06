// SPDX-License-Identifier: Apache-2.0
// The threads of a process that write batches, as they are found in its memory, and what they hold.
#pragma once

#include <nopspan/probes.h>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// Of one copy of the library in a process. What is read may be anything: it is bounded, and nothing else is promised.
class ThreadHeaders {
 public:
  struct Thread {
    std::uint64_t address = 0;
    nopspan_thread header{};
  };

  ThreadHeaders(std::uint32_t pid, std::uint64_t gate_address) : pid_(pid), gate_address_(gate_address) {}

  // Reads all of them. False if the process could not be read (errno says why).
  bool read();
  // Those in use, as of the last read(). After a fork the parent's are there too, but not in use.
  [[nodiscard]] const std::vector<Thread>& threads() const { return threads_; }
  // There were more than are looked at.
  [[nodiscard]] bool too_many() const { return too_many_; }

  // What a thread holds, from its first entry on, read without its doing. False if it has handed that over meanwhile,
  // or it could not be read.
  bool fetch(const Thread& thread, std::string& bytes) const;
  // Whether it still holds it.
  [[nodiscard]] bool still_holds(const Thread& thread) const;

 private:
  static constexpr std::size_t kMostThreads = 16384;

  bool find_new(std::uint64_t first);
  void read_known();

  std::uint32_t pid_;
  std::uint64_t gate_address_;
  std::uint64_t mark_ = 0;
  std::uint64_t newest_ = 0;              // the list's first one at the last read
  std::vector<std::uint64_t> addresses_;  // of all: none is ever taken from the list
  std::vector<nopspan_thread> headers_;
  std::vector<Thread> threads_;
  bool too_many_ = false;
};

}  // namespace nopspan::collector
