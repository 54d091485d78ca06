// SPDX-License-Identifier: Apache-2.0
// The probes that fire once for a fact: `tokens` for token usage and `tool_call` for a tool call. Several nested spans
// may carry the same fact, so only the innermost of them fires the probe. It marks its ancestors (given_contexts.h).
#pragma once

#include "state/span_state.h"
#include "thread/thread_state.h"

namespace nopspan::detail {

// The probes that an ended span fires, because it is the innermost span with the fact.
struct OnceProbes {
  bool tokens = false;
  bool tool_call = false;
};

// False if fire_once_probes() would do nothing.
inline bool has_once_probes(const SpanState& span) noexcept {
  return span.context_given || span.has_tool || span.has_engine_times || (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0 ||
         span.usage_below.load(std::memory_order_relaxed) || span.tool_below.load(std::memory_order_relaxed);
}

// Called at the end of a span, inside a LibraryGuard. Fires `tokens` and `tool_call`, unless a span inside this one has
// fired them, and `engine_request`. `enclosing` is the innermost scope around the span on this thread.
OnceProbes fire_once_probes(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept;

}  // namespace nopspan::detail
