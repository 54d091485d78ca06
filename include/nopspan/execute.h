// SPDX-License-Identifier: Apache-2.0
// Events that are not a span's: one moment, emitted once.
#ifndef NOPSPAN_EXECUTE_H
#define NOPSPAN_EXECUTE_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/fields.h>
#include <nopspan/gate.h>
#include <nopspan/name.h>
#include <nopspan/span.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace nopspan {

namespace detail {

// What an event is, besides what its fields say.
enum class Point : std::uint8_t {
  event,          // probe `event`
  timed,          // the same; handlers see the measurement system_time
  retry,          // probe `retry`; handlers see system_time and request_id
  first_token,    // probe `first_token`, if it is the span's first
  handlers_only,  // no probe: the fact has one of its own
  engine_stats,   // probe `gauge`, once for each of the engine's gauges among its measurements
};

// `target` null: the thread's current context.
NOPSPAN_API NOPSPAN_COLD FieldSink* point_begin(Point point, Name name, const Context* target) noexcept;
NOPSPAN_API NOPSPAN_COLD void point_emit(FieldSink*) noexcept;
NOPSPAN_API NOPSPAN_COLD void point_discard(FieldSink*) noexcept;
NOPSPAN_API NOPSPAN_COLD void emit_gauge(Text engine, Text name, std::int64_t value, std::int64_t maximum) noexcept;

template <class F, class Fill>
inline void point(Point which, Name name, const Context* target, Fill&& callable) {
  FieldSink* sink = point_begin(which, name, target);
  if (sink == nullptr) return;
#if NOPSPAN_EXCEPTIONS
  try {
    fill<F>(sink, callable);
  } catch (...) {
    point_discard(sink);  // thread exit inside the callable
    throw;
  }
#else
  fill<F>(sink, callable);
#endif
  point_emit(sink);
}

}  // namespace detail

// Emits one event with what `fields(Fields&)` sets, and nothing else: no metadata is merged, no measurement added. The
// callable runs only if somebody listens. The event belongs to the thread's current span.
template <class M, std::enable_if_t<std::is_invocable_v<M&, Fields&>, int> = 0>
inline void execute(Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, nullptr, fields);
}
inline void execute(Name name) {
  execute(name, [](Fields&) {});
}

// The same for a span that is named: one of several that run on this thread, or on none.
template <class M>
inline void execute(const Context& span, Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, &span, fields);
}
template <class M>
inline void execute(const Span& span, Name name, M&& fields) {
  if (detail::points_wanted()) execute(span.context(), name, fields);
}
template <class M>
inline void execute(const AsyncSpan& span, Name name, M&& fields) {
  if (detail::points_wanted()) execute(span.context(), name, fields);
}

inline void execute(const Context& span, Name name) {
  execute(span, name, [](Fields&) {});
}
inline void execute(const Span& span, Name name) {
  execute(span, name, [](Fields&) {});
}
inline void execute(const AsyncSpan& span, Name name) {
  execute(span, name, [](Fields&) {});
}

namespace detail {

// An event of a catalogue: called with a callable that takes the builder of its fields, or with the span that it
// belongs to (a Span, an AsyncSpan or a Context) and that; without the callable it has no fields. Without a span it
// belongs to the thread's current one.
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

}  // namespace detail

// A reading of a gauge of an engine or instance: `gauge` on probes, event `engine.stats` to handlers (measurement:
// `name`; metadata: engine, gauge, maximum). `maximum` 0: there is none.
inline void gauge(Text engine, Text name, std::int64_t value, std::int64_t maximum = 0) noexcept {
  if (detail::points_wanted()) detail::emit_gauge(engine, name, value, maximum);
}

}  // namespace nopspan

#endif  // NOPSPAN_EXECUTE_H
