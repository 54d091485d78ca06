// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state/span_state.h"

namespace nopspan::detail {

// Applies the trace_id in the metadata of an agent's span or event. Called before the event or the span's start is
// emitted.
void apply_trace_id(SpanState& state) noexcept;

}  // namespace nopspan::detail
