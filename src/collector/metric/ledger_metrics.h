// SPDX-License-Identifier: Apache-2.0
// A ledger as metrics.
#pragma once

#include "base/output.h"
#include "metric/metric_registry.h"
#include "model/ledger.h"
#include "model/source.h"

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
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

// Writes the ledger to --metrics FILE while a command runs, for the textfile collector of Prometheus' node_exporter.
// Only the first write is on the calling thread, because the disk may be slow.
class MetricsFile {
 public:
  // Writes an empty ledger first. Throws Failure with kUsageError if that fails. If `path` is empty, nothing is ever
  // written.
  MetricsFile(std::string path, std::uint64_t buffer_bytes);

  // Replaces the file atomically, some time later. It is a failure if the last text is not written by then. Failures
  // are counted; the first one is printed to stderr.
  void write(const Ledger& ledger);
  // Writes if 10 s have passed since the last write.
  void write_if_due(const std::function<Ledger()>& ledger);
  // Writes, and waits until it is done, but not long for a slow disk.
  void write_and_wait(const Ledger& ledger);

 private:
  using Clock = std::chrono::steady_clock;
  class Text;
  // Owned by the thread too, which may outlive this object.
  struct Target {
    std::string path;
    std::atomic<std::uint64_t> failed = 0;
    void fail(int error);
  };

  const std::shared_ptr<Target> target_ = std::make_shared<Target>();
  std::string text(const Ledger& ledger);

  MetricRegistry registry_;
  LedgerMetrics ledger_{registry_};
  MetricFamily& failed_writes_;
  Clock::time_point due_;
  Output output_{1};  // at most one text waits
};

}  // namespace nopspan::collector
