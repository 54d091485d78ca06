// SPDX-License-Identifier: Apache-2.0
// The events of a catalogue: objects that are called (genai::prompt_sent, agent::operators::wait).
#ifndef NOPSPAN_DETAIL_NAMED_EVENT_H
#define NOPSPAN_DETAIL_NAMED_EVENT_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/detail/point.h>
#include <nopspan/gate.h>
#include <nopspan/name.h>
#include <nopspan/span.h>

#include <cstddef>
#include <string_view>
#include <type_traits>

namespace nopspan::detail {

// One event of a catalogue. It is called with a callable that takes the builder of the event's fields, or with the span
// that the event belongs to (a Span, an AsyncSpan or a Context) and such a callable. Without a callable the event has
// no fields. Without a span the event belongs to the thread's current span.
template <class F, Point point_kind>
class NamedEvent {
 public:
  using Builder = F;
  template <std::size_t N>
  constexpr explicit NamedEvent(const char (&literal)[N]) noexcept : name_(literal) {}

  template <class M, std::enable_if_t<std::is_invocable_v<M&, F&>, int> = 0>
  void operator()(M&& fields) const {
    if (points_wanted()) point<F>(point_kind, name_, nullptr, fields);
  }
  template <class M>
  void operator()(const Context& span, M&& fields) const {
    if (points_wanted()) point<F>(point_kind, name_, &span, fields);
  }
  template <class S, class M, std::enable_if_t<std::is_same_v<S, Span> || std::is_same_v<S, AsyncSpan>, int> = 0>
  void operator()(const S& span, M&& fields) const {
    if (points_wanted()) (*this)(span.context(), fields);
  }
  void operator()() const {
    (*this)([](F&) {});
  }
  template <
      class S,
      std::enable_if_t<std::is_same_v<S, Span> || std::is_same_v<S, AsyncSpan> || std::is_same_v<S, Context>, int> = 0>
  void operator()(const S& span) const {
    (*this)(span, [](F&) {});
  }

  [[nodiscard]] constexpr std::string_view name() const noexcept { return name_.view(); }

 private:
  Name name_;
};

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_NAMED_EVENT_H
