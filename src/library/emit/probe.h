// SPDX-License-Identifier: Apache-2.0
// The per-event probes: each function fills a record and calls a site. All must be called inside a LibraryGuard.
#pragma once

#include "genai/span_attributes.h"
#include "state/span_state.h"
#include "thread/thread_state.h"

#include <cstdint>

namespace nopspan::detail {

// The probes of a span.
void fire_span_start(ThreadState* thread, SpanState& span) noexcept;
// Fires span_stop. If the span ended with an exception, also fires span_exception.
void fire_span_end(ThreadState* thread, SpanState& span) noexcept;

// The probes of point events, retries and gauges, and of single facts. The record is that of the span or event that
// they belong to.
void fire_event(ThreadState* thread, SpanState& event, std::uint64_t time_ns) noexcept;
void fire_retry(ThreadState* thread, SpanState& event, std::uint64_t time_ns) noexcept;
void fire_first_token(ThreadState* thread, SpanState& span, std::uint64_t tokens_so_far) noexcept;
void fire_tokens(ThreadState* thread, SpanState& span) noexcept;
void fire_tool_call(ThreadState* thread, SpanState& span) noexcept;
void fire_engine_request(ThreadState* thread, SpanState& span) noexcept;
void fire_engine_step(ThreadState* thread, SpanState& span) noexcept;
void fire_gauge(ThreadState* thread, SpanState& event, const char* engine, const char* name, std::int64_t value,
                std::int64_t maximum, const GaugeLabel& label) noexcept;

// The probes that fire once for a fact: `tokens` for token usage and `tool_call` for a tool call. Several nested spans
// may carry the same fact, so only the innermost of them fires the probe. It marks its ancestors (given_contexts.h).

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

// Adds what follows from the times and token counts of an inference server's request, so that all engines compute it in
// the same way: to an engine.request at its end the measurements ttft_ns, time_per_output_token_ns and
// tokens_per_second, and the metadata `cancelled`. Each is added only if it is known and the application has not set
// it. Other spans are left unchanged. Call it before the probes of the span's end.
void add_engine_times(SpanState& span) noexcept;
// Leaves out (and counts) the times of an engine that are longer than the request.
void leave_out_long_times(SpanState& span) noexcept;

}  // namespace nopspan::detail
