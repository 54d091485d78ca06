// SPDX-License-Identifier: Apache-2.0
// The metrics of inference engines: requests, steps, gauges and counters, and sums of facts.
#pragma once

#include "facts/engine_facts.h"
#include "metric/metric_registry.h"
#include "model/entry.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nopspan::collector {

class EngineMetrics {
 public:
  explicit EngineMetrics(MetricRegistry& registry);
  void add(MetricWriter& writer, const Entry& entry, const Exemplar* exemplar);

 private:
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
  std::vector<std::pair<std::string, std::string>> own_labels_;  // of a gauge
  std::vector<std::pair<std::string_view, std::string_view>> own_views_;
  struct Labels {
    std::string_view service, engine, model;
  };
  Labels labels_;  // of the current entry
};

}  // namespace nopspan::collector
