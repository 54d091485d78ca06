// SPDX-License-Identifier: Apache-2.0
// The metrics of inference engines: requests, steps, gauges and counters, and sums of facts.
#pragma once

#include "facts/engine_facts.h"
#include "metric/metric_registry.h"
#include "model/entry.h"

#include <array>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

class EngineMetrics {
 public:
  explicit EngineMetrics(MetricRegistry& registry);
  void add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);

 private:
  // The values of all labels of a family.
  template <class... More>
  [[nodiscard]] std::array<std::string_view, 3 + sizeof...(More)> labels(const More&... more) const {
    return {common_[0], common_[1], common_[2], more...};
  }
  void add_gauge(MetricWriter& writer, const Entry& entry);
  void add_facts(MetricWriter& writer, const Entry& entry);
  void add_request(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);
  void add_step(MetricWriter& writer, const Entry& entry);

  // With the names that processes use.
  std::vector<std::pair<std::string_view, MetricFamily*>> known_gauges_;
  MetricFamily& gauge_;
  MetricFamily& maximum_;
  MetricFamily& counter_;
  MetricFamily& facts_;
  MetricFamily& texts_;
  MetricFamily& phases_;
  MetricFamily& token_gaps_;
  MetricFamily& step_duration_;
  MetricFamily& step_time_;
  MetricFamily& step_members_;
  MetricFamily& step_tokens_;
  MetricFamily& malformed_;
  Gaps gaps_;
  MetricLabels own_labels_;                 // of a gauge
  std::array<std::string_view, 3> common_;  // the first labels of all families here, of the current entry
};

}  // namespace nopspan::collector
