// SPDX-License-Identifier: Apache-2.0
// A hit of a per-event probe, as a span.
#pragma once

#include "live/clock_map.h"
#include "model/span.h"

#include <collector_events.h>

#include <string_view>

namespace nopspan::collector {

// `bytes` are struct nopspan_event and what follows it; `time_ns` is when the probe was hit. Everything in it but its
// size is as a process wrote it. False if it cannot be a hit of such a probe. Texts in `span` are in `bytes`.
bool read_event(std::string_view bytes, std::uint64_t time_ns, const ClockMap& clocks, Span& span);

}  // namespace nopspan::collector
