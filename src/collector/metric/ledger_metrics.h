// SPDX-License-Identifier: Apache-2.0
// A ledger as metrics.
#pragma once

#include "metric/metric_registry.h"
#include "model/ledger.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class LedgerMetrics {
 public:
  // The number of processes with a row of their own. All others share one row, because each row costs the readers of
  // metrics.
  static constexpr std::size_t kMostProcesses = 100;

  // `registry` must outlive this object.
  explicit LedgerMetrics(MetricRegistry& registry);

  // Replaces the numbers of the ledger before.
  void write(const Ledger& ledger);

 private:
  using ProcessKey = std::pair<std::uint32_t, std::uint64_t>;  // pid and start
  // A process as labels: pid and comm.
  using Labels = std::pair<std::string, std::string>;
  using Rows = std::map<Labels, Counts>;

  void choose_rows(const Ledger& ledger);
  [[nodiscard]] bool has_row(const ProcessPointer& process) const;
  void forget(MetricWriter& writer, const Labels& labels) const;
  void write_unattached(MetricWriter& writer, const Ledger& ledger);

  MetricRegistry& registry_;
  std::vector<MetricFamily*> families_;
  MetricFamily& lost_;
  MetricFamily& parts_;
  MetricFamily& processes_;
  MetricFamily& damage_;
  MetricFamily& unattached_;
  Rows rows_;                           // of the last ledger
  std::set<Labels> unattached_labels_;  // likewise
  // Whether each of the ledger's processes has a row. A process without one never gets one later, because the counters
  // of the shared row would decrease.
  std::map<ProcessKey, bool> has_row_;
};

}  // namespace nopspan::collector
