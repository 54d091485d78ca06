// SPDX-License-Identifier: Apache-2.0
// The functions of this room's files that other files of the library call.
#pragma once

#include "base/exceptions.h"
#include "state/span_state.h"

#include <cstdint>
#include <string_view>

// The functions that public headers call are declared cold, so that gcc moves the calls out of the application's hot
// code. gcc would then also optimise their bodies for size and place them with other cold code. So each of them only
// calls a function with this attribute, which is compiled for speed and is not inlined into its caller.
#define NOPSPAN_HOT __attribute__((hot, noinline))

namespace nopspan::detail {

// Finds the span's name in the catalogues.
void note_catalogue(SpanState& span) noexcept;

// Reports the end of a span to tracers: the general case. `enclosing` is the innermost scope around it on this thread,
// and `up` the gate. Must be called inside a LibraryGuard.
void report_any_end(ThreadState* thread, SpanState& span, const Frame* enclosing, std::uint64_t up) noexcept;

// The mark of the process that began the span. At the end of the process, another thread may change it.
inline std::uint64_t mark_of(const SpanState& span) noexcept {
  return __atomic_load_n(&span.process_mark, __ATOMIC_RELAXED);
}

// How a finished span ended.
struct Outcome {
  std::uint64_t duration_ns;
  const char* exception_kind;   // null if no exception ended it
  std::string_view error_type;  // the exception's type, if there was one
};
// Emits a finished span. Probes see its start and its end. Handlers see only its stop event, and only the fields that
// the application set.
void span_complete_stop_only(SpanState* span, const Outcome& outcome) noexcept;

// Records that an exception of another language ends the span; `stacktrace` is null if it is not known. Does the same
// as span_exception().
void span_exception_of(SpanState& span, const Caught& caught, const Value& stacktrace) noexcept;

// Adds NOPSPAN_ATTRIBUTE_LINKS at the end of a span with links.
void add_link_states(FieldSink& sink) noexcept;

// Records that the first token of a stream came at `now_ns`, and fires the probe `first_token`. False if the span has
// had a first token. Must be called inside a LibraryGuard.
bool mark_first_token(ThreadState* thread, SpanState& span, std::uint64_t now_ns, std::uint64_t tokens_so_far) noexcept;
// Like span_first_token(), at a given time (CLOCK_MONOTONIC, ns).
void span_first_token_at(SpanState* span, std::uint64_t now, std::uint64_t tokens_so_far) noexcept;

// Dispatches the event gen_ai.stream.first_token to handlers.
void emit_first_token(const SpanState& span, std::uint64_t tokens_so_far) noexcept;

// Ends the use of the calling thread's state, as the end of the thread does.
void end_this_thread() noexcept;
// From now on, nothing happens when a thread ends. Called when this code is about to be unmapped.
void forget_thread_ends() noexcept;

}  // namespace nopspan::detail
