// SPDX-License-Identifier: Apache-2.0
// Facts that have probes of their own: each is told once.
#pragma once

#include "span_state.h"
#include "thread_state.h"

namespace nopspan::detail {

// At the end of a span, with the scopes around it on this thread: `tokens` and `tool_call`, where nothing inside it has
// told them, and `engine_request`. Inside an Entry.
void fire_facts(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept;

}  // namespace nopspan::detail
