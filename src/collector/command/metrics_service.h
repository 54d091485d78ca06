// SPDX-License-Identifier: Apache-2.0
// Makes metrics of a source's entries, with the ledger and the server's own counts, and serves them by HTTP.
#pragma once

#include "metric/ledger_metrics.h"
#include "metric/metric_feed.h"
#include "metric/metric_registry.h"
#include "model/source.h"
#include "serve/metric_server.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace CLI {
class App;
}

namespace nopspan::collector {

struct MetricsOptions {
  MetricFeedOptions feed;
  MetricLimits limits;
  bool native = false;
  MetricServerOptions server;
};

// Adds the options of the metrics. `--names` and `--semconv` are among them.
void add_metrics_options(CLI::App& app, MetricsOptions& options);

class MetricsService : public Sink {
 public:
  // `ledger` is called by on_tick().
  MetricsService(const MetricsOptions& options, std::function<Ledger()> ledger);

  void on_entry(const Entry& entry) override { feed_.on_entry(entry); }
  void on_tick(std::uint64_t now_unix_ns) override;
  // Writes the ledger and the server's counts as of now.
  void update();
  // Serves from now on. Throws Failure.
  void serve(const MetricServerOptions& options);
  // Of the server; null if serve() was not called.
  [[nodiscard]] const MetricServer* server() const { return server_.get(); }
  [[nodiscard]] MetricRegistry& registry() { return registry_; }

 private:
  MetricRegistry registry_;
  MetricFeed feed_;
  LedgerMetrics ledger_metrics_;
  const std::function<Ledger()> ledger_;
  std::uint64_t updated_unix_ns_ = 0;
  std::unique_ptr<MetricServer> server_;  // destroyed first, because it uses the others
};

}  // namespace nopspan::collector
