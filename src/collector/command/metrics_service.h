// SPDX-License-Identifier: Apache-2.0
// Makes metrics of a source's entries, with the ledger and the counts of the server and of receivers, and serves them
// by HTTP.
#pragma once

#include "export/exporter.h"
#include "metric/ledger_metrics.h"
#include "metric/metric_feed.h"
#include "metric/metric_registry.h"
#include "model/source.h"
#include "serve/metric_server.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace nopspan::collector {

struct MetricsOptions {
  MetricFeedOptions feed;
  MetricLimits limits;
  MetricServerOptions server;
};

// Adds the options of the metrics.
void add_metrics_options(CLI::App& app, MetricsOptions& options);

class MetricsService : public Sink {
 public:
  // `source` and `exporter` are used by on_tick() and update(), and must outlive this object.
  MetricsService(const MetricsOptions& options, const Source& source, const Exporter& exporter);

  void on_entry(const Entry& entry) override {
    feed_.on_entry(entry);
    last_entry_unix_ns_ = now_unix_ns_;
  }
  void on_tick(std::uint64_t now_unix_ns) override;
  // Writes the ledger, and the counts of the source's writers, of the receivers and of the server, as of now.
  void update();
  // Serves from now on. Throws Failure.
  void serve(const MetricServerOptions& options);
  // Of the server; null if serve() was not called.
  [[nodiscard]] const MetricServer* server() const { return server_.get(); }
  [[nodiscard]] MetricRegistry& registry() { return registry_; }

 private:
  MetricFamily& family(const char* name, const char* unit, const char* help, MetricType type,
                       std::vector<std::string> labels = {});
  void write_source();
  void write_accounts();
  void write_server();

  MetricRegistry registry_;
  MetricFeed feed_;
  LedgerMetrics ledger_metrics_;
  const Source& source_;
  const Exporter& exporter_;
  std::uint64_t now_unix_ns_ = 0, updated_unix_ns_ = 0;
  std::uint64_t last_entry_unix_ns_ = 0;  // when the last entry arrived; 0: there was none
  std::unique_ptr<MetricServer> server_;  // destroyed first, because it uses the others
};

}  // namespace nopspan::collector
