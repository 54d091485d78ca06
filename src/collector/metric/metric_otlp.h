// SPDX-License-Identifier: Apache-2.0
// Encodes metrics as OTLP.
#pragma once

#include "metric/metric_registry.h"

#include <nopspan/semconv.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

struct OtlpMetrics {
  std::string bytes;  // MetricsData, which is also an ExportMetricsServiceRequest
  std::uint64_t points = 0;
};

// Makes snapshots of what has changed since the one before.
class MetricDeltas {
 public:
  explicit MetricDeltas(Temporality temporality) : temporality_(temporality) {}
  // Changes counters and histograms to their differences, as the temporality wants. Without a difference, a point is
  // left out.
  void apply(MetricSnapshot& snapshot);

 private:
  const Temporality temporality_;
  std::uint64_t unix_ns_ = 0;  // of the snapshot before
  // Its points, by their labels, which no other series shares.
  std::unordered_map<const MetricLabels*, MetricPoint> before_;
};

// Returns a Resource, encoded; of null that of nopspan itself.
using ResourceOf = std::function<std::string(const Process* resource)>;

// All data points, in as many messages as necessary so that none has more than `most_bytes` bytes, unless one point
// has. The scope is nopspan with `version`.
std::vector<OtlpMetrics> otlp_metrics(const MetricSnapshot& snapshot, const ResourceOf& resource_of,
                                      std::string_view version, Semconv semconv = Semconv::v1_41,
                                      std::size_t most_bytes = std::size_t{1} << 20U);

}  // namespace nopspan::collector
