// SPDX-License-Identifier: Apache-2.0
// One request body for an OTLP receiver, and its other forms.
#pragma once

#include "model/entry.h"

#include <cstdint>
#include <optional>
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
  [[nodiscard]] Signal signal() const {
    return points > 0 ? Signal::metrics : logs > 0 ? Signal::logs : Signal::traces;
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

// The OTLP/JSON form, which is one line without an end of line: 64-bit integers are texts, ids of traces and spans
// hexadecimal, enums numbers, bytes Base64. It is made from the protobuf message, because there is only one encoder for
// entries. Fields that the exporter does not write are left out. Nothing if the message is malformed.
std::optional<std::string> otlp_json(const ExportBody& body);

}  // namespace nopspan::collector
