// SPDX-License-Identifier: Apache-2.0
// One request body for an OTLP receiver.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <string>
#include <utility>

namespace nopspan::collector {

// Numbers of items in a body. A body has one kind of items. Only traces have two: spans, and the events inside them.
struct ItemCounts {
  std::uint64_t spans = 0, span_events = 0, logs = 0, points = 0;

  [[nodiscard]] std::uint64_t total() const { return spans + span_events + logs + points; }
  ItemCounts& operator+=(const ItemCounts& other) {
    spans += other.spans;
    span_events += other.span_events;
    logs += other.logs;
    points += other.points;
    return *this;
  }
  ItemCounts& operator-=(const ItemCounts& part) {
    spans -= part.spans;
    span_events -= part.span_events;
    logs -= part.logs;
    points -= part.points;
    return *this;
  }
  friend bool operator==(const ItemCounts& a, const ItemCounts& b) = default;
};

struct ExportBody {
  Signal signal = Signal::traces;
  std::string bytes;  // protobuf: ExportTraceServiceRequest, ExportLogsServiceRequest or ExportMetricsServiceRequest
  ItemCounts items;
};

// The items that a receiver counts in partial_success.rejected_*: spans, log records or data points.
inline std::uint64_t rejectable_items(const ExportBody& body) { return body.items.total() - body.items.span_events; }

// Divides a body that a receiver found too large. The halves have its items in the same order. If the body has fewer
// than two items, or is malformed, the second half is empty.
std::pair<ExportBody, ExportBody> split(ExportBody body);

}  // namespace nopspan::collector
