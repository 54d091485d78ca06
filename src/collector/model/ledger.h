// SPDX-License-Identifier: Apache-2.0
// What became of every entry that processes emitted: nothing is lost without a count.
#pragma once

#include "model/span.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nopspan::collector {

// Entries (spans, events, retries, gauges). emitted = the sum of all others but held_by_killed and estimated, and
// closes exactly unless processes were killed where the kernel does not let their last buffer be read.
struct Counts {
  std::uint64_t emitted = 0;         // from the sequences that processes number their entries by
  std::uint64_t delivered = 0;       // given to the command
  std::uint64_t filtered = 0;        // left out as the filter says, in the kernel or here
  std::uint64_t ring_full = 0;       // no room in the ring buffer: a larger --buffer, or a filter
  std::uint64_t unreadable = 0;      // the kernel could not read them: a page was not in memory
  std::uint64_t too_large = 0;       // a batch over the largest size class
  std::uint64_t malformed = 0;       // no entries as the ABI has them: a hostile or broken process
  std::uint64_t missed = 0;          // the kernel did not run the program for a hit
  std::uint64_t discarded = 0;       // by the library, because nobody listened any more
  std::uint64_t export_dropped = 0;  // delivered here, and then lost by the command: disk full, receiver down
  std::uint64_t held_by_killed = 0;  // at most so many more were in buffers of killed processes; not in emitted

  [[nodiscard]] std::uint64_t lost() const {
    return ring_full + unreadable + too_large + malformed + missed + discarded + export_dropped;
  }
  [[nodiscard]] bool empty() const { return *this == Counts(); }
  [[nodiscard]] bool closes() const { return emitted == delivered + filtered + lost(); }
  Counts& operator+=(const Counts& other);
  Counts& operator-=(const Counts& part);
  friend bool operator==(const Counts& a, const Counts& b) = default;
};

struct ProcessLedger {
  ProcessPointer process;
  Counts counts;
};

struct Ledger {
  std::vector<ProcessLedger> processes;  // those that ended too, up to a bound: the rest are in `others`
  Counts others;
  std::uint64_t others_processes = 0;
  Counts total;

  // What of the total no process in the list has: `others`, unless the total says more.
  [[nodiscard]] Counts rest() const;
  // Counts delivered entries as something else, in the total too. A process that is not in the list is in `others`.
  void move_delivered(const ProcessPointer& process, std::uint64_t Counts::*to, std::uint64_t entries);
};

// A ledger that is added up process by process. What has the same pid, start and host is one process.
class LedgerSum {
 public:
  static constexpr std::size_t kMostProcesses = 16384;
  explicit LedgerSum(std::size_t most_processes = kMostProcesses) : most_processes_(most_processes) {}

  // The process's counts, valid as long as this is; the others' if it finds no room or is null.
  Counts& of(const ProcessPointer& process);
  // A process whose start its ledger does not know stays apart: another ledger's of that pid may be another.
  void add(const Ledger& ledger);

  [[nodiscard]] Counts total() const;
  // Processes of which there is no entry are left out.
  [[nodiscard]] Ledger ledger() const;

 private:
  using Key = std::tuple<std::string, std::uint32_t, std::uint64_t, std::uint64_t>;  // host, pid, start, and a number
  ProcessLedger* find_or_add(const ProcessPointer& process, std::uint64_t number);

  std::size_t most_processes_;
  std::map<Key, ProcessLedger> processes_;
  std::uint64_t without_start_ = 0;
  Counts others_;
  std::uint64_t others_processes_ = 0;
};

// {"emitted": …, …, "closes": true}
nlohmann::ordered_json to_json(const Counts& counts);
// {"total": {…}, "processes": [{"pid": …, "command": …, …}]}
nlohmann::ordered_json to_json(const Ledger& ledger);
// The ledger that to_json() wrote; of other JSON what there is of it.
Ledger ledger_of(const nlohmann::ordered_json& json);
// The same; throws Failure with kUsageError if it is nothing that to_json() made, or its processes are not its total.
Ledger whole_ledger_of(const nlohmann::ordered_json& json);
// One or a few lines for people, as commands print on stderr when they end: what was delivered, and what was lost why.
std::string to_text(const Ledger& ledger);
// "2 processes".
std::string processes_text(const Ledger& ledger);
// A line with the processes that lost most; "" if none has or it was the only one.
std::string worst_text(const Ledger& ledger);

}  // namespace nopspan::collector
