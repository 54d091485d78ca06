// SPDX-License-Identifier: Apache-2.0
// What span.cpp has for other files of the library.
#pragma once

#include "state/span_state.h"

#include <cstdint>
#include <string_view>

namespace nopspan::detail {

// The flags that a context gives to the spans and events under it.
std::uint32_t context_flags(const Context& context) noexcept;

// How a finished span ended.
struct Outcome {
  std::uint64_t duration_ns;
  const char* exception_kind;   // null: no exception ended it
  std::string_view error_type;  // of an exception; clean
};
// Emits a finished span. Probes see its start and its end. Handlers see its stop event alone, with the fields as the
// application set them.
void span_complete_stop_only(SpanState* span, const Outcome& outcome) noexcept;

// The first token of a stream came at `now_ns`: fires the probe `first_token`, unless the span has had one. Inside a
// LibraryGuard.
bool mark_first_token(ThreadState* thread, SpanState& span, std::uint64_t now_ns, std::uint64_t tokens_so_far) noexcept;
// As span_first_token(), at a time that was read already (CLOCK_MONOTONIC, ns).
void span_first_token_at(SpanState* span, std::uint64_t now, std::uint64_t tokens_so_far) noexcept;

}  // namespace nopspan::detail
