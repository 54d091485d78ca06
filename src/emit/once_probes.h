// SPDX-License-Identifier: Apache-2.0
// OnceProbes that have probes of their own: each is told once, by the innermost span that has it.
#pragma once

#include "state/span_state.h"
#include "thread/thread_state.h"

namespace nopspan::detail {

// The probes for which an ended span is the innermost.
struct OnceProbes {
  bool tokens = false;
  bool tool_call = false;
};

// False if fire_once_probes() would do nothing.
inline bool has_once_probes(const SpanState& span) noexcept {
  return span.context_given || span.has_tool || span.has_engine_times || (span.flags & NOPSPAN_FLAG_HAS_USAGE) != 0 ||
         span.usage_below.load(std::memory_order_relaxed) || span.tool_below.load(std::memory_order_relaxed);
}

// At the end of a span: fires `tokens` and `tool_call`, unless a span inside it has fired them, and `engine_request`.
// `enclosing` are the scopes around the span on this thread. Inside a LibraryGuard.
OnceProbes fire_once_probes(ThreadState* thread, SpanState& span, const Frame* enclosing) noexcept;

}  // namespace nopspan::detail
