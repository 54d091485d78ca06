// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state/span_state.h"

#include <cstdint>

namespace nopspan::detail {

// The event gen_ai.stream.first_token, to handlers.
void emit_first_token(const SpanState& span, std::uint64_t tokens_so_far) noexcept;

}  // namespace nopspan::detail
