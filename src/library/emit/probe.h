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

}  // namespace nopspan::detail
