// SPDX-License-Identifier: Apache-2.0
// OTLP's three signals.
#pragma once

#include "model/entry.h"

#include <cstddef>
#include <cstdint>

namespace nopspan::collector {

// In a recording: traces for spans, logs for events and retries, metrics for gauges.
enum class Signal : std::uint8_t { traces, logs, metrics };
inline constexpr std::size_t kSignals = 3;
constexpr Signal signal_of(Kind kind) {
  if (kind == Kind::span) return Signal::traces;
  return kind == Kind::gauge ? Signal::metrics : Signal::logs;
}

}  // namespace nopspan::collector
