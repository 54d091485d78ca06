// SPDX-License-Identifier: Apache-2.0
// The calls of a bridge, which makes spans for the API of another tracing library (nopspan/opentelemetry.h). They are
// what Span and AsyncSpan do not need: ids, names and times that the other library decides. They are not NOPSPAN_COLD,
// because the bridge is not the application's code.
#ifndef NOPSPAN_DETAIL_BRIDGE_H
#define NOPSPAN_DETAIL_BRIDGE_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstdint>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE::detail {

// The place of a span in its trace, as W3C Trace Context has it.
struct TracePlace {
  unsigned char trace_id[16] = {};
  std::uint64_t span_id = 0;  // the first byte of W3C's id is the highest one of the number
  std::uint8_t trace_flags = 0;
};

// async_begin() for a span that has this place instead of a new one. The parent is in the same trace, or its context is
// empty.
NOPSPAN_API SpanState* async_begin_at(Name name, ContextRef parent, SpanOptions options,
                                      const TracePlace& place) noexcept NOPSPAN_IN_SHELL(return nullptr);

// async_begin() for a child of a span that has not ended, or without one, of the current span. It copies no Context.
NOPSPAN_API SpanState* async_begin_inside(Name name, SpanState* parent, SpanOptions options) noexcept
    NOPSPAN_IN_SHELL(return nullptr);

// The context of a span that another library or process has made. Without ids, it has only what the baggage gives.
NOPSPAN_API Context context_at(const TracePlace& place, bool is_remote, Text tracestate, Text baggage) noexcept
    NOPSPAN_IN_SHELL(return {});
NOPSPAN_API TracePlace place_of(const Context& context) noexcept NOPSPAN_IN_SHELL(return {});
// The same of a span that has not ended.
NOPSPAN_API TracePlace place_of(const SpanState*) noexcept NOPSPAN_IN_SHELL(return {});
// The context of a span that is about to end. async_context() would also remember that the span has children that may
// report its tokens.
NOPSPAN_API Context last_context(const SpanState*) noexcept NOPSPAN_IN_SHELL(return {});

// Renames a span that has not ended. The probe `span_start` and handlers of the start have had the first name.
NOPSPAN_API void span_rename(SpanState*, Name name) noexcept NOPSPAN_IN_SHELL();

// Sets the instrumentation scope of a span, of which the export makes OTLP's. Parts that are empty are left out.
NOPSPAN_API void put_scope(FieldSink*, Text name, Text version, Text schema_url) noexcept NOPSPAN_IN_SHELL();

// Begins an event in a span that has not ended. When its fields are set, and while the span cannot end, call
// point_note(): gen_ai.stream.first_token is the first token of the span. Then call point_emit().
NOPSPAN_API FieldSink* point_begin_in(Name name, SpanState* span) noexcept NOPSPAN_IN_SHELL(return nullptr);
NOPSPAN_API void point_note(FieldSink* event) noexcept NOPSPAN_IN_SHELL();
// Sets the time of an event that was begun.
NOPSPAN_API void point_at(FieldSink*, std::uint64_t time_ns) noexcept NOPSPAN_IN_SHELL();

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_BRIDGE_H
