// SPDX-License-Identifier: Apache-2.0
// A sink that makes metrics of entries. docs/metrics.md lists them.
#pragma once

#include "metric/engine_metrics.h"
#include "metric/genai_metrics.h"
#include "metric/metric_registry.h"
#include "metric/span_metrics.h"
#include "model/source.h"

#include <nopspan/semconv.h>

#include <cstdint>
#include <functional>

namespace nopspan::collector {

struct MetricFeedOptions {
  Semconv semconv = Semconv::v1_41;
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
  MetricRegistry& registry_;
  const std::function<bool(const Entry&)> is_exemplar_;
  SpanMetrics spans_;
  GenAiMetrics genai_;
  EngineMetrics engines_;
  GenAiSpan genai_span_;  // of the current span; it keeps its memory
};

}  // namespace nopspan::collector
