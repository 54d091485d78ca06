// SPDX-License-Identifier: Apache-2.0
// Metrics of all spans, whatever their names: calls, failures and durations. Names and labels are those of the span
// metrics connector of OpenTelemetry's Collector, so that dashboards for it work.
#pragma once

#include "metric/metric_registry.h"
#include "model/entry.h"

#include <string_view>

namespace nopspan::collector {

// "" if the entry did not fail.
std::string_view error_type_of(const Entry& entry);

class SpanMetrics {
 public:
  explicit SpanMetrics(MetricRegistry& registry);
  void add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);

 private:
  MetricFamily& calls_;
  MetricFamily& duration_;
  MetricFamily& events_;
  MetricFamily& retries_;
};

}  // namespace nopspan::collector
