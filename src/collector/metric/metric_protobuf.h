// SPDX-License-Identifier: Apache-2.0
// Encodes metrics for Prometheus as protobuf, the only format with native histograms.
#pragma once

#include "metric/metric_registry.h"

#include <string>

namespace nopspan::collector {

// Messages io.prometheus.client.MetricFamily, each after its length. Histograms are native if the registry has native
// ones, with the classic buckets beside them. Prometheus 2.42 then stores only the native one.
std::string prometheus_protobuf(const MetricSnapshot& snapshot);

}  // namespace nopspan::collector
