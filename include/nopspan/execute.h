// SPDX-License-Identifier: Apache-2.0
/// @file
/// Point events and gauges. A point event has a time and no duration. It belongs to the thread's current span, if there
/// is one. If the program has the span object, it may call Span::event() or AsyncSpan::event() instead.
///
/// @code
/// nopspan::execute("cache.hit", [](nopspan::Fields& f) { f.set("shard", 4).measure("age_ms", 12); });
/// nopspan::gauge("waiting", 2);
/// nopspan::gauge("waiting", 3, [](nopspan::GaugeFields& g) { g.engine("llama.cpp").label("reason", "slots"); });
/// nopspan::gauge("slots_busy", 3, [](nopspan::GaugeFields& g) { g.engine("llama.cpp").maximum(8); });
/// nopspan::counter("requests_aborted", 17, [](nopspan::GaugeFields& g) { g.engine("llama.cpp").model("m"); });
/// @endcode
///
/// While no tracer or handler is attached, each call loads one word (the gate), and callables do not run.
///
/// Thread safety: all functions may be called from any thread at any time.
#ifndef NOPSPAN_EXECUTE_H
#define NOPSPAN_EXECUTE_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/gate.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <cstdint>
#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// Emits one event that has only the fields that `fields(Fields&)` sets: it inherits no metadata, and nopspan adds no
/// measurement. The event has the ids of the thread's current span, if there is one. The probe `event` fires. Handlers
/// receive an event of that name. Without a callable the event has no fields.
template <class N, class M, std::enable_if_t<!detail::is_parent<N>, int> = 0>
inline void execute(N&& name, M&& fields) {
  detail::event_of(ContextRef::current(), std::forward<N>(name), fields);
}
/// @overload
template <class N>
inline void execute(N&& name) {
  execute(std::forward<N>(name), [](Fields&) {});
}

/// The same, but the event has the ids of another span instead of the current one: of a Span, an AsyncSpan, or the span
/// in a Context (a copy of Context::current() or span.context()).
template <class N, class M>
inline void execute(ContextRef span, N&& name, M&& fields) {
  detail::event_of(span, std::forward<N>(name), fields);
}
/// @overload
template <class N, std::enable_if_t<detail::is_name<N>, int> = 0>
inline void execute(ContextRef span, N&& name) {
  execute(span, std::forward<N>(name), [](Fields&) {});
}

/// The engine, the model and the labels of a gauge or counter. Any other metadata is a label too. Content is not.
class GaugeFields : public BuilderOf<GaugeFields> {
 public:
  using BuilderOf::BuilderOf;
  /// The greatest value that the gauge can have; 0 if there is none.
  GaugeFields& maximum(std::int64_t value) { return set("maximum", value); }
  /// Adds a label, by which readers tell gauges of one name apart. Any key is allowed. Use only few different values,
  /// because readers keep a row for each.
  GaugeFields& label(Text key, Text value) { return set(key, value); }
};

namespace detail {

template <class T>
inline constexpr bool is_reading = std::is_convertible_v<const T&, std::int64_t> && !std::is_floating_point_v<T>;

template <class T, class M>
inline void report(Text name, const T& value, bool is_counter, M&& fields) {
  static_assert(is_reading<T>, "the value of a gauge or counter is an integer");
  if constexpr (!takes<M, GaugeFields>()) {
    report_wrong_fields<M, GaugeFields>();
  } else if (points_wanted()) {
    guarded([&] {
      const auto number = static_cast<std::int64_t>(value);
      FieldSink* sink = point_begin(Point::event, "engine.stats", ContextRef::current());
      if (sink == nullptr) return;
      fill_begun<GaugeFields, point_discard>(sink, fields);
      gauge_emit(sink, name, number, is_counter);
    });
  }
}

}  // namespace detail

/// Reports the value of a gauge: an integer, which may be negative. `fields(GaugeFields&)` sets its engine, model,
/// labels and maximum. Without engine() and model() it has those of the thread's current span. A name may itself have
/// one label: "waiting{reason=slots}". The probe `gauge` fires, and receives the value as a signed integer. Handlers
/// receive the event `engine.stats` with a measurement whose key is `name`, and with the metadata engine, gauge and
/// maximum.
template <class T, class M>
inline void gauge(Text name, const T& value, M&& fields) {
  detail::report(name, value, false, fields);
}
/// @overload
template <class T>
inline void gauge(Text name, const T& value) {
  gauge(name, value, [](GaugeFields&) {});
}

/// Reports the total of a counter: a number that grows as long as the program runs, such as the requests that were
/// aborted. Call it at intervals with the whole total, and not with what was added. So nothing is missing if no tracer
/// was attached for some time. Readers show the differences, and treat a smaller total as a restart. A negative total
/// does not reach the probes, and is counted (stats().values_clamped). Otherwise it is reported as a gauge is; handlers
/// also receive the metadata counter (true).
template <class T, class M>
inline void counter(Text name, const T& total, M&& fields) {
  detail::report(name, total, true, fields);
}
/// @overload
template <class T>
inline void counter(Text name, const T& total) {
  counter(name, total, [](GaugeFields&) {});
}

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_EXECUTE_H
