// SPDX-License-Identifier: Apache-2.0
// A live span or event: what its handle points at.
#pragma once

#include <nopspan/probes.h>
#include "fields/field_buffer.h"
#include "state/catalogue.h"
#include "state/identity.h"
#include "state/intern.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/events.h>
#include <nopspan/span.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxLinks = 128;

struct ContextAccess {
  static constexpr std::uint8_t kHasTrace = Context::kHasTrace;
  static constexpr std::uint8_t kRemote = Context::kRemote;
  static constexpr std::uint8_t kForeign = Context::kForeign;
  static constexpr std::uint8_t kUntraced = Context::kUntraced;
  static constexpr std::uint8_t kUnrecorded = Context::kUnrecorded;
  enum Label : std::uint8_t { engine, model, tenant, extra };  // extra and two more: labels.h

  static unsigned char (&trace_id(Context& c))[kTraceIdBytes] { return c.trace_id_; }
  static const unsigned char (&trace_id(const Context& c))[kTraceIdBytes] { return c.trace_id_; }
  static std::uint64_t& span_id(Context& c) { return c.span_id_; }
  static std::uint64_t& root_id(Context& c) { return c.root_id_; }
  static std::uint64_t& tracestate(Context& c) { return c.tracestate_; }
  static std::uint64_t tracestate(const Context& c) { return c.tracestate_; }
  static std::uint16_t& label(Context& c, Label which) { return c.labels_[which]; }
  static std::uint16_t label(const Context& c, Label which) { return c.labels_[which]; }
  static bool has_labels(const Context& c) {
    std::uint16_t any = 0;
    for (const std::uint16_t number : c.labels_) any |= number;
    return any != 0;
  }
  static std::uint8_t& trace_flags(Context& c) { return c.trace_flags_; }
  static std::uint8_t& bits(Context& c) { return c.bits_; }
  static std::uint8_t bits(const Context& c) { return c.bits_; }
  static char (&foreign(Context& c))[64] { return c.foreign_; }
  static const char (&foreign(const Context& c))[64] { return c.foreign_; }
};

// What only an inference server's request has.
struct EngineTimes {
  std::uint64_t arrival_ns = 0, queue_ns = 0, prefill_ns = 0, decode_ns = 0;
  std::uint64_t prefill_tokens = 0, decode_tokens = 0, preemptions = 0;
  std::uint8_t known = 0;  // which were given: engine_bit()
};
inline std::uint8_t engine_bit(const EngineTimes& times, const std::uint64_t& field) noexcept {
  return static_cast<std::uint8_t>(1U << static_cast<unsigned>(&field - &times.arrival_ns));
}

// The sink that Fields writes to. A span and an event are the same to it.
struct FieldSink {
  // Texts are begun and not cleared: this is made for every span.
  FieldSink() noexcept { tool_name[0] = retry_reason[0] = '\0'; }

  // In the order in which they are cleared with the fewest stores.
  std::uint32_t flags = 0;  // NOPSPAN_FLAG_*
  std::uint32_t link_count = 0;
  nopspan_link* links = nullptr;  // kMaxLinks of them, made when first needed
  std::uint64_t input_tokens = 0, output_tokens = 0, cached_tokens = 0, reasoning_tokens = 0;
  std::uint64_t retry_delay_ns = 0, retry_attempt = 0;
  EngineTimes engine;
  std::uint8_t usage_keys = 0;  // which of the tokens are set, from the first one's bit on
  std::uint8_t keys = 0;        // AttributeKey::Of: whose keys its fields have
  bool has_tool = false;
  bool has_engine_times = false;
  bool keeps_content = false;  // a handler may want it, or probes may
  bool is_span = true;
  char tool_name[kMaxNameBytes + 1];
  char retry_reason[kMaxNameBytes + 1];
  FieldBuffer fields;
  Frame frame;  // its context, and its place on its thread's stack
};

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
  bool as_given = false;        // handlers see its end alone, with the fields as they were given
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

// From the thread's pool; null when there is no memory. release() takes it to the pool of the thread that calls.
SpanState* allocate(ThreadState* thread) noexcept;
void release(SpanState* span) noexcept;
void free_pool(ThreadState* thread) noexcept;

// The flags that a context gives to what is emitted under it.
std::uint32_t context_flags(const Context& context) noexcept;

// Adds the span's ids to its metadata, for handlers; once a span. Where the application set such a key itself, its own
// stays. Does not move the fields, if kIdsBytes were reserved.
inline constexpr std::size_t kIdsBytes = 256;
void add_ids(SpanState& span) noexcept;

// How a span was that is over.
struct Over {
  std::uint64_t duration_ns;
  const char* exception_kind;   // null: no exception ended it
  std::string_view error_type;  // of an exception; clean
};
// Emits the span: to probes its start and its end, to handlers its end alone, with the fields as they were given.
void span_complete_as_given(SpanState* span, const Over& over) noexcept;

// The trace_id in the metadata of an agent's span or event: before its start is emitted, or the event.
void apply_trace_id(SpanState& state) noexcept;

// The first token of a stream came at `now_ns`: the probe `first_token`; nothing, if the span had one. Inside an Entry.
bool mark_first_token(ThreadState* thread, SpanState& span, std::uint64_t now_ns, std::uint64_t tokens_so_far) noexcept;
// As span_first_token(), at a time that was read already (CLOCK_MONOTONIC, ns).
void span_first_token_at(SpanState* span, std::uint64_t now, std::uint64_t tokens_so_far) noexcept;

// The event gen_ai.stream.first_token, to handlers.
void emit_first_token(const SpanState& span, std::uint64_t tokens_so_far) noexcept;

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
