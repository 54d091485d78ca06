// SPDX-License-Identifier: Apache-2.0
// Which processes the kernel's counts by process are of.
#pragma once

#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// What the kernel's program has counted since it was loaded.
struct HistHits {
  struct OfProcess {
    std::uint32_t tgid = 0;  // as the kernel numbers it
    std::uint32_t pid = 0;   // as this program's pid namespace does; 0: it does not
    std::string command;     // of the thread that was seen first
    Counts counts;
  };
  std::vector<OfProcess> processes;
  Counts others;  // of processes that found no room
};

// The kernel counts by a number, and a number is given to another process when one has ended. So it is looked now and
// then who has it: what was counted up to then stays that process's.
class HistProcesses {
 public:
  // Of ended processes whose number another one has so many are kept.
  static constexpr std::size_t kMostEnded = 1000;
  // What is known of a pid's process; one that is gone without a trace has no start.
  using Facts = std::function<ProcessPointer(std::uint32_t pid)>;

  void look_at(const HistHits& hits, const Facts& facts);
  // As of when it was looked last.
  [[nodiscard]] Ledger ledger() const;

 private:
  struct Known {
    ProcessPointer process;
    Counts before;  // are of others that had its number
    Counts now;
  };
  static Counts own_counts(const Known& known);
  void end(Known& known);

  std::map<std::uint32_t, Known> known_;  // by tgid
  std::deque<ProcessLedger> ended_;
  Counts forgotten_;
  std::uint64_t forgotten_processes_ = 0;
  // Of those that cannot be known, as the kernel told last.
  Counts unknown_;
  std::uint64_t unknown_processes_ = 0;
};

}  // namespace nopspan::collector
