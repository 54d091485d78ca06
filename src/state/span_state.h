// SPDX-License-Identifier: Apache-2.0
// A live span or event: what its handle points at.
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
#include <string_view>

namespace nopspan::detail {

struct SpanState : FieldSink {
  SpanState() noexcept { error_type[0] = '\0'; }

  const CatalogueSpan* catalogue = nullptr;  // null: in none, or an event
  Interned name{};
  Interned enclosing{};  // of an event: the name of the span around it, or its own
  std::uint64_t process_mark = 0;
  std::uint64_t parent_id = 0;
  std::uint64_t start_ns = 0;
  std::uint64_t end_ns = 0;  // 0: the moment of ending
  std::uint64_t duration_ns = 0;
  std::uint64_t first_token_ns = 0;
  std::uint32_t status = NOPSPAN_STATUS_OK;
  int uncaught = 0;             // exceptions in flight when it began
  bool started = false;         // its start was emitted
  bool stop_only = false;       // handlers see its stop event alone, with the fields as the application set them
  bool begins_request = false;  // it has no request but its own
  bool has_ids = false;         // its ids are in its metadata, for handlers
  bool context_given = false;   // see given_contexts.h
  Point point = Point::event;
  std::atomic<bool> ended_elsewhere{false};
  std::atomic<bool> usage_below{false};  // a span inside it had token usage, and fired `tokens`
  std::atomic<bool> tool_below{false};   // the same for `tool_call`
  const char* exception_kind = "";
  char error_type[kMaxNameBytes + 1];
  mutable char request_id[24] = {};  // see canonical_id()
};

// Adds the span's ids to its metadata, for handlers; once a span. Where the application set such a key itself, its own
// stays. Does not move the fields, if kIdsBytes were reserved.
inline constexpr std::size_t kIdsBytes = 256;
void add_ids(SpanState& span) noexcept;

// The parent's id, if the parent is a span of this process; otherwise 0.
inline std::uint64_t local_parent(const SpanState& state) noexcept {
  return (state.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0 ? 0 : state.parent_id;
}

inline bool has_request(const SpanState& state) noexcept { return !state.frame.context.empty(); }

// The request id in its canonical shape, 24 bytes with NULs at the end; they are NULs alone where there is no request.
// Written when somebody asks for it.
inline const char (&canonical_id(const SpanState& state) noexcept)[24] {
  if (state.request_id[0] == '\0' && has_request(state)) {
    encode_request_id(ContextAccess::trace_id(state.frame.context), state.request_id);
  }
  return state.request_id;
}

// The id that is shown: the canonical one, or a foreign one.
inline const char* visible_id(const SpanState& state) noexcept {
  if (!has_request(state)) return "";
  return (state.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? ContextAccess::foreign(state.frame.context)
                                                      : canonical_id(state);
}

}  // namespace nopspan::detail
