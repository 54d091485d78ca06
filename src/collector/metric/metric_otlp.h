// SPDX-License-Identifier: Apache-2.0
// Encodes metrics as OTLP.
#pragma once

#include "metric/metric_registry.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// The family of Prometheus for what OTLP has as resources. It is left out of OTLP.
inline constexpr char kTargetInfo[] = "target_info";

struct OtlpMetrics {
  std::string bytes;  // MetricsData, which is also an ExportMetricsServiceRequest
  std::uint64_t points = 0;
};

// All data points, in as many messages as necessary so that none has more than `most_bytes` bytes, unless one point
// has. `resource` has the attributes of the Resource (exported_resource() has those of a process). The scope
// is nopspan with `version`.
std::vector<OtlpMetrics> otlp_metrics(const MetricSnapshot& snapshot, std::string_view resource,
                                      std::string_view version, std::size_t most_bytes = std::size_t{1} << 20U);

}  // namespace nopspan::collector
