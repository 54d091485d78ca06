// SPDX-License-Identifier: Apache-2.0
// Makes metrics of a source's entries, with the ledger and the counts of the server and of receivers, and serves them
// by HTTP.
#pragma once

#include "blame/blame.h"
#include "export/exporter.h"
#include "metric/ledger_metrics.h"
#include "metric/metric_feed.h"
#include "metric/metric_registry.h"
#include "model/source.h"
#include "serve/http_server.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace nopspan::collector {

struct MetricsOptions {
  bool has_page = false;
  MetricFeedOptions feed;
  MetricLimits limits;
  HttpServerOptions server;
};

// Adds the options of the metrics.
void add_metrics_options(CLI::App& app, MetricsOptions& options);

class LivePage;

class MetricsService : public Sink {
 public:
  // `source` and `exporter` are used by on_tick() and update(), and must outlive this object. `serves`, `exports`:
  // whether metrics are made for Prometheus, and by resource for OTLP. `say` prints a line to stderr.
  MetricsService(const MetricsOptions& options, const Source& source, const Exporter& exporter, bool serves,
                 bool exports, std::function<void(const std::string&)> say);

  void on_entry(const Entry& entry) override {
    for (const auto& view : views_) view->feed.on_entry(entry);
    blame_.on_entry(entry);
    last_entry_unix_ns_ = now_unix_ns_;
  }
  void on_tick(std::uint64_t now_unix_ns) override;
  void finish() { blame_.finish(); }  // after the last entry
  // Writes the ledger, and the counts of the source's writers, of the receivers and of the server, as of now.
  void update();
  // Serves from now on, with this page if it is not null. Throws Failure.
  void serve(const HttpServerOptions& options, LivePage* page);
  // Of the server; null if serve() was not called.
  [[nodiscard]] const HttpServer* server() const { return server_.get(); }
  // For OTLP. Only if `exports`.
  [[nodiscard]] MetricSnapshot exported() { return views_.back()->registry.snapshot(); }

 private:
  // The same metrics are in both. A series of Prometheus adds up resources, so it cannot be made of those of OTLP: it
  // would fall when one of these is forgotten.
  struct View {
    View(const MetricsOptions& options, bool by_resource);
    // OTLP has resources instead of targets.
    static MetricFeedOptions with_targets(MetricFeedOptions feed, bool has_targets) {
      feed.has_targets = has_targets;
      return feed;
    }
    const char* const output;  // of nopspan.metrics.overflow
    MetricRegistry registry;
    MetricFeed feed;
    LedgerMetrics ledger;
    MetricFamily& stalls;
    MetricFamily& unsure;
  };
  static void write_stalls(View& view, const Blame::Request& request);
  void write_overflows();
  void say_overflow(const char* output, const MetricOverflow& overflow);
  void write_source(MetricRegistry& registry);
  void write_uncharged(MetricRegistry& registry);
  void write_accounts(MetricRegistry& registry);
  void write_server(MetricRegistry& registry);

  std::vector<std::unique_ptr<View>> views_;  // the one for OTLP is the last
  const Source& source_;
  const Exporter& exporter_;
  const std::size_t most_series_;
  const std::function<void(const std::string&)> say_;
  const LivePage* page_ = nullptr;  // which is served; null: none
  bool has_said_overflow_ = false;
  Blame blame_;
  std::uint64_t now_unix_ns_ = 0, updated_unix_ns_ = 0;
  std::uint64_t last_entry_unix_ns_ = 0;  // when the last entry arrived; 0: there was none
  std::unique_ptr<HttpServer> server_;    // destroyed first, because it uses the others
};

}  // namespace nopspan::collector
