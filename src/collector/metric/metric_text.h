// SPDX-License-Identifier: Apache-2.0
// Formats metrics as text for Prometheus.
#pragma once

#include "metric/metric_registry.h"

#include <string>

namespace nopspan::collector {

// Prometheus' text format 0.0.4. It cannot carry exemplars.
std::string prometheus_text(const MetricSnapshot& snapshot);
// OpenMetrics 1.0.0, with exemplars.
std::string openmetrics_text(const MetricSnapshot& snapshot);

}  // namespace nopspan::collector
