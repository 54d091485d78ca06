// SPDX-License-Identifier: Apache-2.0
// What follows from the times and counts of an inference server's request.
#pragma once

#include "state/span_state.h"

namespace nopspan::detail {

// Adds to an engine.request that ends the measurements ttft_ns, time_per_output_token_ns and tokens_per_second and the
// metadata `cancelled`, where they are known and the application did not set them; nothing to another span. Inside an
// LibraryGuard, before the probes of the span's end.
void add_engine_times(SpanState& span) noexcept;

// From the request's arrival (the span's start, where none is known) to the first token, ns; 0: there is none, or it
// was before the arrival.
std::uint64_t time_to_first_token(const SpanState& span) noexcept;

}  // namespace nopspan::detail
