// SPDX-License-Identifier: Apache-2.0
// Writes the ledger to --metrics FILE while a command runs, for the textfile collector of Prometheus' node_exporter.
// Only the first write is on the calling thread, because the disk may be slow.
#pragma once

#include "base/output.h"
#include "metric/ledger_metrics.h"
#include "metric/metric_registry.h"
#include "model/source.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace nopspan::collector {

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
