// SPDX-License-Identifier: Apache-2.0
// The events that the conventions define as log records.
#pragma once

#include <nopspan/semconv.h>

#include <string_view>

namespace nopspan::collector {

struct Severity {
  unsigned number;  // opentelemetry.proto.logs.v1.SeverityNumber
  std::string_view text;
};
inline constexpr Severity kDebug{5, "DEBUG"}, kInfo{9, "INFO"}, kWarn{13, "WARN"};

struct LogEvent {
  std::string_view name;
  Severity severity;
};
inline constexpr LogEvent kLogEvents[] = {
    {semconv::event::client_inference_operation_details, kDebug},
    {semconv::event::evaluation_result, kInfo},
    {semconv::event::client_operation_exception, kWarn},
};

// Null if it is not one of these events.
inline const LogEvent* log_event(std::string_view name) {
  for (const LogEvent& event : kLogEvents) {
    if (event.name == name) return &event;
  }
  return nullptr;
}

}  // namespace nopspan::collector
