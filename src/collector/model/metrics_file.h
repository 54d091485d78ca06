// SPDX-License-Identifier: Apache-2.0
// Writes the ledger to --metrics FILE while a command runs, for the textfile collector of Prometheus' node_exporter.
#pragma once

#include "model/ledger_metrics.h"
#include "model/source.h"

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace nopspan::collector {

class MetricsFile {
 public:
  // Writes an empty ledger first. Throws Failure with kUsageError if that fails. If `path` is empty, nothing is ever
  // written.
  MetricsFile(std::string path, std::uint64_t buffer_bytes);

  // Replaces the file atomically. Failures are counted; the first one is printed to stderr.
  void write(const Ledger& ledger);
  // Writes if 10 s have passed since the last write.
  void write_if_due(const std::function<Ledger()>& ledger);

 private:
  using Clock = std::chrono::steady_clock;

  std::string path_;
  LedgerMetrics metrics_;
  Clock::time_point due_;
  std::uint64_t failed_ = 0;
};

// Writes the ledger to the file while a source runs.
class MeteredSink : public Sink {
 public:
  MeteredSink(Sink& sink, MetricsFile& file, std::function<Ledger()> ledger)
      : sink_(sink), file_(file), ledger_(std::move(ledger)) {}
  void on_entry(const Entry& entry) override { sink_.on_entry(entry); }
  void on_tick(std::uint64_t now_unix_ns) override {
    sink_.on_tick(now_unix_ns);
    file_.write_if_due(ledger_);
  }

 private:
  Sink& sink_;
  MetricsFile& file_;
  std::function<Ledger()> ledger_;
};

}  // namespace nopspan::collector
