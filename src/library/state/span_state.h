// SPDX-License-Identifier: Apache-2.0
// The state of a live span or event. The handle in the application, for example a Span, points to it.
#pragma once

#include "state/catalogue.h"
#include "state/context_access.h"
#include "state/field_sink.h"
#include "state/intern.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/probes.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::detail {

struct SpanState : FieldSink {
  explicit SpanState(Reused reused) noexcept : FieldSink(reused) { error_type[0] = request_id[0] = '\0'; }

  const CatalogueSpan* catalogue = nullptr;  // null if the span is in no catalogue, or for an event
  Interned name;                             // in name_text
  Frame frame;                               // its place on its thread's context stack
  Slabs::Claim place;                        // in span_slabs
  std::atomic<std::uint64_t> handle{0};      // of the C API: the handle's `check`; 0 if no handle may use the state
  std::uint64_t end_ns = 0;                  // 0: the time is read when the span ends, or when the event is emitted
  std::uint64_t duration_ns = 0;
  int uncaught = 0;             // exceptions in flight on its thread when it began
  bool started = false;         // its start was emitted
  bool begins_request = false;  // it began a new request
  bool has_ids = false;         // add_ids() was called, or must do nothing
  Point point = Point::event;
  // Of an event: the span that it was given, if that is no scope of the thread, and the name that it had then.
  SpanState* given_span;
  Interned given_name;  // in given_name_text
  const char* exception_kind = "";
  char error_type[kMaxNameBytes + 1];
  mutable char request_id[24];  // use canonical_id()
  char given_name_text[kMaxNameBytes + 1];
};

// The NOPSPAN_FLAG_* bits that are W3C's flags of the trace.
inline std::uint32_t flags_of_trace(const ContextHead& context) noexcept {
  static_assert(NOPSPAN_FLAG_SAMPLED == 1U << 6U && NOPSPAN_FLAG_RANDOM == 2U << 15U);
  return (context.trace_flags & 1U) << 6U | (context.trace_flags & 2U) << 15U;
}

// The NOPSPAN_FLAG_* bits that spans and events inherit from their context.
inline std::uint32_t context_flags(const ContextHead& context) noexcept {
  std::uint32_t flags = 0;
  if ((context.bits & ContextAccess::kForeign) != 0) flags |= NOPSPAN_FLAG_FOREIGN_ID;
  if ((context.bits & ContextAccess::kRemoteParent) != 0) flags |= NOPSPAN_FLAG_REMOTE_PARENT;
  if ((context.bits & ContextAccess::kOrphan) != 0) flags |= NOPSPAN_FLAG_ORPHAN;
  flags |= flags_of_trace(context);
  return flags;
}

// True for a key that docs/genai.md marks as content for a span or event of this name. However it is set, it leaves the
// process only if the process captures content.
bool is_content_key(const FieldSink& sink, std::string_view key) noexcept;
// Marks the fields that a span's new name makes content.
void note_new_name(SpanState& span) noexcept;

// Gives a span or event that begins a request the id in its metadata: request_id, or trace_id of an agent. If it has a
// request already, or the span has started, an id that differs is counted. Called before the start and the end of a
// span, or an event, are emitted.
void apply_noted_ids(SpanState& state) noexcept;
inline void apply_given_ids(SpanState& state) noexcept {
  if (__builtin_expect(state.gives_id, 0)) apply_noted_ids(state);
}

// The bytes to reserve for what is added to the fields of a span or event for handlers: measurements, ids and labels.
std::size_t added_bytes(const SpanState& state) noexcept;
// Adds the span's ids and labels to its metadata, for handlers. Does so once per span. If the application has set such
// a key, its value is kept.
void add_ids(SpanState& span) noexcept;
// Adds the request's id as the trace_id of an agent's span or event inside a request, for handlers. Needs the room of
// added_bytes().
void add_trace_id(SpanState& state) noexcept;

// The parent's id, if the parent is a span of this process; otherwise 0.
inline std::uint64_t local_parent(const SpanState& state) noexcept {
  return (state.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? 0 : state.context.parent_id;
}

inline bool has_failed(const SpanState& state) noexcept {
  return state.status == NOPSPAN_STATUS_ERROR || state.status == NOPSPAN_STATUS_EXCEPTION;
}

inline bool has_request(const SpanState& state) noexcept { return !is_empty(state.context); }

// The request id in its canonical form: 22 characters and two NULs. All 24 bytes are NULs if there is no request. It is
// encoded at the first call.
inline const char (&canonical_id(const SpanState& state) noexcept)[24] {
  if (state.request_id[0] == '\0') {
    std::memset(state.request_id, 0, sizeof(state.request_id));
    if (has_request(state)) nopspan_request_id(state.context.trace_id, state.request_id);
  }
  return state.request_id;
}

// The request id that users see: the one that the application supplied if it is in another form, else the canonical id.
inline const char* visible_id(const SpanState& state) noexcept {
  if (!has_request(state)) return "";
  return (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? state.foreign_id : canonical_id(state);
}

}  // namespace nopspan::detail
