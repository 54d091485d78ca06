// SPDX-License-Identifier: Apache-2.0
// Derives measurements from the times and token counts of an inference server's request, so that all engines compute
// them in the same way.
#pragma once

#include "state/span_state.h"

namespace nopspan::detail {

// Adds to an engine.request at its end the measurements ttft_ns, time_per_output_token_ns and tokens_per_second, and
// the metadata `cancelled`. Each is added only if it is known and the application has not set it. Other spans are left
// unchanged. Call it inside a LibraryGuard, before the probes of the span's end.
void add_engine_times(SpanState& span) noexcept;

// The time in ns from the request's arrival to the first token. If the arrival is unknown, the span's start counts as
// the arrival. 0 if there is no first token or it was before the arrival.
std::uint64_t time_to_first_token(const SpanState& span) noexcept;

}  // namespace nopspan::detail
