// SPDX-License-Identifier: Apache-2.0
// The function of trace_id.cpp.
#pragma once

#include "state/span_state.h"

namespace nopspan::detail {

// Gives an agent's span or event that begins a new request the request id in its metadata trace_id. If it has a request
// already and the ids differ, that is counted. Called before the event, or the span's start, is emitted.
void apply_trace_id(SpanState& state) noexcept;

}  // namespace nopspan::detail
