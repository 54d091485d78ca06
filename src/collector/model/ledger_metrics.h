// SPDX-License-Identifier: Apache-2.0
// A ledger as metrics, in Prometheus' text form.
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
  // So many processes have rows of their own, and one row has all others: metrics cost their readers by the row.
  static constexpr std::size_t kMostProcesses = 100;

  // Of the kernel's ring buffer; 0: there is none.
  explicit LedgerMetrics(std::uint64_t buffer_bytes) : buffer_bytes_(buffer_bytes) {}

  // `failed_writes`: how often the text could not be written before.
  std::string text(const Ledger& ledger, std::uint64_t failed_writes);

 private:
  using ProcessKey = std::pair<std::uint32_t, std::uint64_t>;  // pid and start

  void choose_rows(const Ledger& ledger);
  [[nodiscard]] bool has_row(const ProcessPointer& process) const;

  std::uint64_t buffer_bytes_;
  // Of the ledger's processes. One that was among the others stays there: else their counters would go back.
  std::map<ProcessKey, bool> has_row_;
};

}  // namespace nopspan::collector
