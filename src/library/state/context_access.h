// SPDX-License-Identifier: Apache-2.0
// Access to the private parts of a Context, for the library.
#pragma once

#include "state/identity.h"

#include <nopspan/context.h>
#include <nopspan/detail/bridge.h>

#include <cstdint>
#include <cstring>

namespace nopspan::detail {

struct ContextAccess {
  static constexpr std::uint8_t kHasTrace = Context::kHasTrace;
  static constexpr std::uint8_t kRemote = Context::kRemote;
  static constexpr std::uint8_t kForeign = Context::kForeign;
  static constexpr std::uint8_t kUntraced = Context::kUntraced;
  static constexpr std::uint8_t kUnrecorded = Context::kUnrecorded;
  static constexpr std::uint8_t kRemoteParent = Context::kRemoteParent;
  static constexpr std::uint8_t kOrphan = Context::kOrphan;
  enum Label : std::uint8_t { engine, model, tenant, extra };  // `extra` is the first of three: labels.h

  static ContextHead& head(Context& c) { return c.head_; }
  static const ContextHead& head(const Context& c) { return c.head_; }
  static char (&foreign(Context& c))[64] { return c.foreign_; }
  static const char (&foreign(const Context& c))[64] { return c.foreign_; }

  // What the AsyncSpan that has this state stands for; null: one that is not recorded.
  static ContextRef of_async(SpanState* span) { return {span, ContextRef::Of::async_span}; }
  // The state of the span that the argument stands for; null if it stands for something else.
  static SpanState* span(ContextRef ref) { return ref.of_ != ContextRef::Of::context ? ref.state() : nullptr; }
  // True for ContextRef::current().
  static bool is_current(ContextRef ref) { return ref.object_ == nullptr; }
  // Calls `use` with the context that the argument stands for.
  template <class Use>
  static auto use(ContextRef ref, const Use& use) {
    if (ref.of_ == ContextRef::Of::context) return use(*static_cast<const Context*>(ref.object_));
    const Context made = ref.context();
    return use(made);
  }
};

inline bool is_empty(const ContextHead& head) noexcept { return (head.bits & ContextAccess::kHasTrace) == 0; }

// Copies a context. The text of the request id is copied only if it is the application's.
inline void copy_context(ContextHead& to, char (&to_foreign)[64], const ContextHead& from,
                         const char* from_foreign) noexcept {
  to = from;
  if (__builtin_expect((from.bits & ContextAccess::kForeign) != 0, 0)) {
    std::memcpy(to_foreign, from_foreign, sizeof(to_foreign));
  }
}
inline TracePlace place_in(const ContextHead& head) noexcept {
  TracePlace place;
  std::memcpy(place.trace_id, head.trace_id, sizeof(place.trace_id));
  place.span_id = head.span_id;
  place.trace_flags = head.trace_flags;
  return place;
}
inline Context make_context(const ContextHead& head, const char* foreign) noexcept {
  Context context;
  copy_context(ContextAccess::head(context), ContextAccess::foreign(context), head, foreign);
  return context;
}

}  // namespace nopspan::detail
