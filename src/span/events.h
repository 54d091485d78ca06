// SPDX-License-Identifier: Apache-2.0
// The functions of events.cpp that other files of the library call.
#pragma once

#include "state/span_state.h"

#include <cstdint>

namespace nopspan::detail {

// Dispatches the event gen_ai.stream.first_token to handlers.
void emit_first_token(const SpanState& span, std::uint64_t tokens_so_far) noexcept;

}  // namespace nopspan::detail
