// SPDX-License-Identifier: Apache-2.0
// The formats in which metrics are served, and what a request's headers say about them.
#pragma once

#include <cstddef>
#include <string_view>

namespace nopspan::collector {

enum class MetricFormat { text, openmetrics };
inline constexpr std::size_t kMetricFormats = 2;

// The value of Content-Type: Prometheus' text format 0.0.4, or OpenMetrics 1.0.0.
const char* content_type(MetricFormat format);

// Returns the format with the highest q value in the header Accept, and the first one of several. If it names no known
// format, the result is text.
MetricFormat format_for(std::string_view accept);

// Whether the header Accept-Encoding names gzip. "*" is not enough.
bool accepts_gzip(std::string_view accept_encoding);

}  // namespace nopspan::collector
