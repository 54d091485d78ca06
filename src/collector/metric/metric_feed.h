// SPDX-License-Identifier: Apache-2.0
// A sink that makes metrics of entries. docs/metrics.md lists them. The names and labels of those of all spans are
// those of the span metrics connector of OpenTelemetry's Collector, so that dashboards for it work.
#pragma once

#include "metric/engine_metrics.h"
#include "metric/genai_metrics.h"
#include "metric/metric_registry.h"
#include "model/source.h"

#include <nopspan/semconv.h>

#include <cstdint>
#include <functional>
#include <unordered_set>

namespace nopspan::collector {

struct MetricFeedOptions {
  Semconv semconv = Semconv::v1_41;
  bool has_targets = false;  // whether target_info has a series for each service, for Prometheus
  // Whether a span that has ids may be an exemplar, for example because its trace is exported. If empty, all of them.
  std::function<bool(const Entry&)> is_exemplar = {};
};

class MetricFeed : public Sink {
 public:
  // `registry` must outlive the feed.
  MetricFeed(MetricRegistry& registry, const MetricFeedOptions& options);

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;

 private:
  void count(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);
  void write_target(MetricWriter& writer, const Process& process);

  MetricRegistry& registry_;
  const std::function<bool(const Entry&)> is_exemplar_;
  MetricFamily& calls_;
  MetricFamily& duration_;
  MetricFamily& events_;
  MetricFamily& retries_;
  GenAiMetrics genai_;
  EngineMetrics engines_;
  MetricFamily* targets_ = nullptr;
  // Processes whose targets were written in this minute. A gauge that is not written for some minutes is forgotten.
  std::unordered_set<std::uint64_t> written_;
  std::uint64_t minute_ = 0;
};

}  // namespace nopspan::collector
