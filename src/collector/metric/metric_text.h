// SPDX-License-Identifier: Apache-2.0
// Formats metrics as text for Prometheus.
#pragma once

#include "metric/metric_registry.h"

#include <string>
#include <string_view>

namespace nopspan::collector {

// OpenTelemetry's translation of metrics' names to those of Prometheus.
struct PrometheusName {
  std::string name;  // with the unit, without `_total`
  std::string unit;  // "seconds"; "" if the name does not end with a unit
};
// "gen_ai.server.request.duration" in "s" is gen_ai_server_request_duration_seconds. Only for the families of this
// program: their names have words, dots and underscores, and their units are "s", "By" or in braces.
PrometheusName prometheus_name(const MetricDescription& about);
// "gen_ai.request.model" is gen_ai_request_model. The names that Prometheus uses itself, such as __name__, get a
// prefix.
std::string prometheus_label(std::string_view name);

// Prometheus' text format 0.0.4. It cannot carry exemplars.
std::string prometheus_text(const MetricSnapshot& snapshot);
// OpenMetrics 1.0.0, with exemplars.
std::string openmetrics_text(const MetricSnapshot& snapshot);

}  // namespace nopspan::collector
