// SPDX-License-Identifier: Apache-2.0
// Accounts for every entry that processes emitted. No entry is lost without being counted.
#pragma once

#include "model/entry.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nopspan::collector {

// Counts of entries (spans, events, retries, gauges). `emitted` is the sum of all others except `held_by_killed` and
// `threads_at_attach`. The sum is exact unless processes were killed and the kernel does not let their last buffers be
// read.
struct Counts {
  std::uint64_t emitted = 0;         // from the sequence numbers that threads give to their entries
  std::uint64_t delivered = 0;       // delivered to the command
  std::uint64_t filtered = 0;        // removed by the filter, in the kernel or here
  std::uint64_t ring_full = 0;       // no room in the ring buffer; a larger --buffer or a filter helps
  std::uint64_t unreadable = 0;      // the kernel could not read them, because a page was not in memory
  std::uint64_t too_large = 0;       // batches beyond the largest size class
  std::uint64_t malformed = 0;       // invalid by the ABI, from a hostile or broken process
  std::uint64_t missed = 0;          // the kernel did not run the program for a hit
  std::uint64_t discarded = 0;       // by the library, because no tracer can get them
  std::uint64_t export_dropped = 0;  // delivered, and then lost by the command: disk full, receiver down
  std::uint64_t not_in_file = 0;     // delivered to a recorder, but not in its file: damaged, or a part is missing
  std::uint64_t held_by_killed = 0;  // upper bound of further entries in buffers of killed processes; not in `emitted`
  // Threads that ran when the collector attached to a file of their process, not in `emitted`. Spans that they had
  // begun by then may be missing, and no count includes these.
  std::uint64_t threads_at_attach = 0;

  [[nodiscard]] std::uint64_t lost() const {
    return ring_full + unreadable + too_large + malformed + missed + discarded + export_dropped + not_in_file;
  }
  // Whether there are no entries.
  [[nodiscard]] bool empty() const;
  [[nodiscard]] bool is_balanced() const { return emitted == delivered + filtered + lost(); }
  Counts& operator+=(const Counts& other);
  Counts& operator-=(const Counts& part);
  friend bool operator==(const Counts& a, const Counts& b) = default;
};

// The parts of recordings that could not be read. They may have held entries that no count includes.
struct Damage {
  std::uint64_t skipped_bytes = 0, broken_chunks = 0;
  std::uint64_t missing_ends = 0;  // recordings that were not closed
  [[nodiscard]] bool empty() const { return *this == Damage(); }
  Damage& operator+=(const Damage& other);
  friend bool operator==(const Damage& a, const Damage& b) = default;
};

struct ProcessLedger {
  ProcessPointer process;
  Counts counts;
};

struct Ledger {
  std::vector<ProcessLedger> processes;  // includes ended processes up to a limit; the rest is in `others`
  Counts others;
  std::uint64_t others_processes = 0;
  Counts total;
  Damage damage;

  // The part of the total that no listed process has. This is `others`, or more if the listed processes and `others` do
  // not add up to the total.
  [[nodiscard]] Counts rest() const;
  // Moves delivered entries to another count, in the total too. For a process that is not in the list, `others` is
  // changed.
  void move_delivered(const ProcessPointer& process, std::uint64_t Counts::*to, std::uint64_t entries);
};

// Adds up ledgers, process by process. The same pid, start and host mean the same process.
class LedgerSum {
 public:
  static constexpr std::size_t kMostProcesses = 16384;
  explicit LedgerSum(std::size_t most_processes = kMostProcesses) : most_processes_(most_processes) {}

  // The counts of a process, or of the others if it is null or there is no room for it. Valid until
  // keep_listed().
  Counts& of(const ProcessPointer& process);
  // A process without a known start gets a row of its own, because the same pid in another ledger may be another
  // process.
  void add(const Ledger& ledger);

  // The number of processes that have counts of their own.
  [[nodiscard]] std::size_t processes() const { return processes_.size(); }
  // Moves the counts of processes that `ledger` does not list to the others.
  void keep_listed(const Ledger& ledger);

  [[nodiscard]] Counts total() const;
  // Processes without entries are left out.
  [[nodiscard]] Ledger ledger() const;

 private:
  // host, pid, start, and a number that separates processes without a start
  using Key = std::tuple<std::string, std::uint32_t, std::uint64_t, std::uint64_t>;
  ProcessLedger* find_or_add(const ProcessPointer& process, std::uint64_t number);

  std::size_t most_processes_;
  std::map<Key, ProcessLedger> processes_;
  std::uint64_t without_start_ = 0;
  Counts others_;
  std::uint64_t others_processes_ = 0;
  Damage damage_;
};

// {"emitted": …, …, "balanced": true}
nlohmann::ordered_json to_json(const Counts& counts);
// {"total": {…}, "processes": [{"pid": …, "comm": …, …}]}, and "damage": {…} if there is any
nlohmann::ordered_json to_json(const Ledger& ledger);
// {"skipped_bytes": …, "broken_chunks": …, "missing_ends": …}
nlohmann::ordered_json to_json(const Damage& damage);
// Reads a ledger that to_json() wrote. Missing parts of other JSON stay empty.
Ledger ledger_of(const nlohmann::ordered_json& json);
// The same, with checks. Throws Failure with kUsageError if to_json() cannot have written it, or if its processes do
// not add up to its total.
Ledger whole_ledger_of(const nlohmann::ordered_json& json);
// A summary in a few lines, which commands print to stderr when they end: the number of delivered entries, and the
// losses by reason.
std::string to_text(const Ledger& ledger);

}  // namespace nopspan::collector
