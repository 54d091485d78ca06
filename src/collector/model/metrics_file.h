// SPDX-License-Identifier: Apache-2.0
// --metrics FILE: the ledger while a command runs, for the textfile collector of Prometheus' node_exporter.
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
  // Writes a first one, of nothing yet. Throws Failure with kUsageError if it cannot. No path: nothing is ever written.
  MetricsFile(std::string path, std::uint64_t buffer_bytes);

  // Who reads it sees the text before or this one, and never a part. What fails is told of once, and counted.
  void write(const Ledger& ledger);
  // Every ten seconds.
  void write_if_due(const std::function<Ledger()>& ledger);

 private:
  using Clock = std::chrono::steady_clock;

  std::string path_;
  LedgerMetrics metrics_;
  Clock::time_point due_;
  std::uint64_t failed_ = 0;
};

// Tells of a ledger while a source runs.
class Metered : public Sink {
 public:
  Metered(Sink& sink, MetricsFile& file, std::function<Ledger()> ledger)
      : sink_(sink), file_(file), ledger_(std::move(ledger)) {}
  void on_span(const Span& span) override { sink_.on_span(span); }
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
