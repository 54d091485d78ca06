// SPDX-License-Identifier: Apache-2.0
// Facts that have probes of their own: each is told once, by the innermost span that has it.
#pragma once

#include "state/span_state.h"
#include "thread/thread_state.h"

namespace nopspan::detail {

// What the ended span is the innermost to tell.
struct Facts {
  bool tells_tokens = false;
  bool tells_tool = false;
};

// Whether there is anything to do for fire_facts().
inline bool has_facts(const SpanState& span) noexcept {
  return span.context_given || span.has_tool || span.has_engine_times || (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0 ||
         span.usage_below.load(std::memory_order_relaxed) || span.tool_below.load(std::memory_order_relaxed);
}

// At the end of a span, with the scopes around it on this thread: `tokens` and `tool_call`, where nothing inside it has
// told them, and `engine_request`. Inside a LibraryGuard.
Facts fire_facts(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept;

}  // namespace nopspan::detail
