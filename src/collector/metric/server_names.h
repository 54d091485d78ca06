// SPDX-License-Identifier: Apache-2.0
// The metrics of inference servers under the servers' own names, so that dashboards for these servers work.
#pragma once

#include "metric/metric_registry.h"

#include <cstdint>
#include <string_view>
#include <vector>

namespace nopspan::collector {

enum class ServerNames : std::uint8_t { none, vllm, sglang, llamacpp };

// A number of an engine that a server has a metric of.
enum class EngineFact : std::uint8_t {
  // Gauges.
  running,
  waiting,
  waiting_by_reason,  // by the reason
  swapped,
  kv_cache_usage,  // from 0 to 1
  // Facts of a request that ended.
  requests,  // by the finish reason
  finished,  // the same, without it
  aborted,
  e2e_s,
  first_token_s,
  per_token_s,
  token_gap_s,
  queue_s,
  prefill_s,
  decode_s,
  inference_s,
  input_tokens,
  output_tokens,
  cached_tokens,
  cached_by_source,  // by the source
  computed_tokens,   // input tokens that came from no cache
  recomputed_tokens,
  max_tokens,
  choices,
  preemptions,
  drafts,
  drafted_tokens,
  accepted_tokens,
  // Facts of a step.
  steps,
  step_tokens,
  // Facts of events.
  preempted,
  queried_tokens,
  hit_tokens,
  external_queried_tokens,
  external_hit_tokens,
  count
};

struct EngineLabels {
  std::string_view service, engine, model, pid;
};

class ServerMetrics {
 public:
  ServerMetrics(MetricRegistry& registry, ServerNames names);

  [[nodiscard]] bool empty() const { return by_fact_.empty(); }
  // Adds the number to a counter, sets a gauge, or adds an observation to a histogram: whatever the server has.
  // `by` is the reason or the source.
  void add(MetricWriter& writer, EngineFact fact, double value, const EngineLabels& of, std::string_view by = {},
           const Exemplar* exemplar = nullptr, std::uint64_t times = 1);

 private:
  struct Metric {
    MetricFamily* family;
    MetricType type;
  };
  bool has_model_ = false;
  std::vector<std::vector<Metric>> by_fact_;  // empty without a server
};

}  // namespace nopspan::collector
