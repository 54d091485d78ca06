// SPDX-License-Identifier: Apache-2.0
// Formats a ledger as metrics in Prometheus' text format.
#pragma once

#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <utility>

namespace nopspan::collector {

class LedgerMetrics {
 public:
  // The number of processes with a row of their own. All others share one row, because each row costs the readers of
  // metrics.
  static constexpr std::size_t kMostProcesses = 100;

  // The size of the kernel's ring buffer; 0 if there is none.
  explicit LedgerMetrics(std::uint64_t buffer_bytes) : buffer_bytes_(buffer_bytes) {}

  // `failed_writes`: how many times writing the text has failed so far.
  std::string text(const Ledger& ledger, std::uint64_t failed_writes);

 private:
  using ProcessKey = std::pair<std::uint32_t, std::uint64_t>;  // pid and start

  void choose_rows(const Ledger& ledger);
  [[nodiscard]] bool has_row(const ProcessPointer& process) const;

  std::uint64_t buffer_bytes_;
  // Whether each of the ledger's processes has a row. A process without one never gets one later, because the counters
  // of the shared row would decrease.
  std::map<ProcessKey, bool> has_row_;
};

}  // namespace nopspan::collector
