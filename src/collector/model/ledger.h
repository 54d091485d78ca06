// SPDX-License-Identifier: Apache-2.0
// Accounts for every entry that processes emitted. No entry is lost without being counted.
#pragma once

#include "model/entry.h"
#include "model/ledger_counts.h"

#include <nlohmann/json_fwd.hpp>

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

namespace nopspan::collector {

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
  Ledger rest_;  // its damage and what was not attached to
};

// {"emitted": …, …, "balanced": true}
nlohmann::ordered_json to_json(const Counts& counts);
// {"total": {…}, "processes": [{"pid": …, "comm": …, …}]}, and "damage": {…}, "unattached": [{"pid": …, …}] and
// "unattached_others": … if there are any
nlohmann::ordered_json to_json(const Ledger& ledger);
// {"skipped_bytes": …, "broken_chunks": …, "missing_ends": …, "repeated_parts": …}
nlohmann::ordered_json to_json(const Damage& damage);
// [{"pid": …, "comm": …, "path": …, "why": …}]
nlohmann::ordered_json to_json(const std::vector<Unattached>& unattached);
// Reads a ledger that to_json() wrote. Missing parts of other JSON stay empty.
Ledger ledger_of(const nlohmann::ordered_json& json);
// A summary in a few lines, which commands print to stderr when they end: the number of delivered entries, the losses
// by reason, and what was not attached to.
std::string to_text(const Ledger& ledger);

}  // namespace nopspan::collector
