// SPDX-License-Identifier: Apache-2.0
// The events of a catalogue: objects that are called (genai::prompt_sent, agent::operators::wait).
#ifndef NOPSPAN_DETAIL_NAMED_EVENT_H
#define NOPSPAN_DETAIL_NAMED_EVENT_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/gate.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/span.h>
#include <nopspan/types.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan::detail {

// One event of a catalogue. It is called with a callable that takes the builder of the event's fields, or with the span
// that the event belongs to (a Span, an AsyncSpan or a Context) and such a callable. Without a callable the event has
// no fields, which does not compile if it needs some. Without a span the event belongs to the thread's current span.
template <class F, Point point_kind, bool needs_fields = false>
class NamedEvent {
 public:
  using Builder = F;
  static constexpr bool kNeedsFields = needs_fields;
  template <std::size_t N>
  constexpr explicit NamedEvent(const char (&literal)[N]) noexcept : name_(literal) {}

  template <class M, std::enable_if_t<!is_parent<M>, int> = 0>
  void operator()(M&& fields) const {
    (*this)(ContextRef::current(), fields);
  }
  template <class M>
  void operator()(ContextRef span, M&& fields) const {
    if constexpr (!takes<M, F>()) {
      report_wrong_fields<M, F>();
    } else if (points_wanted()) {
      point<F>(point_kind, name_, span, fields);
    }
  }
  void operator()(ContextRef span = ContextRef::current()) const {
    static_assert(!needs_fields, "this event has a required field: pass a callable that sets it");
    (*this)(span, [](F&) {});
  }

  [[nodiscard]] constexpr std::string_view name() const noexcept { return name_.view(); }

 private:
  Name name_;
};

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_NAMED_EVENT_H
