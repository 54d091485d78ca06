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
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

class LedgerMetrics {
 public:
  // Of the processes that lost entries, so many have series of their own, because each costs the readers of metrics.
  static constexpr std::size_t kMostProcesses = 100;

  // `registry` must outlive this object.
  explicit LedgerMetrics(MetricRegistry& registry);

  // Replaces the numbers of the ledger before.
  void write(const Ledger& ledger);

 private:
  using Labels = std::pair<std::string, std::string>;                        // pid and comm
  using Rows = std::map<Labels, std::map<std::string_view, std::uint64_t>>;  // what each process lost, by reason

  [[nodiscard]] Rows rows_of(const Ledger& ledger) const;
  void write_unattached(MetricWriter& writer, const Ledger& ledger);

  MetricRegistry& registry_;
  std::vector<MetricFamily*> families_;
  MetricFamily& lost_;
  MetricFamily& parts_;
  MetricFamily& process_lost_;
  MetricFamily& processes_;
  MetricFamily& damage_;
  MetricFamily& unattached_;
  Rows rows_;                           // of the last ledger
  std::set<Labels> unattached_labels_;  // likewise
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
