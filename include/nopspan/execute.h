// SPDX-License-Identifier: Apache-2.0
/// @file
/// Events that belong to no span of which the program has the object, and readings of gauges: one moment, emitted once.
/// An event of a span in hand is emitted by Span::event() and AsyncSpan::event().
///
/// @code
/// nopspan::execute("cache.hit", [](nopspan::Fields& f) { f.set("shard", 4).measure("age_ms", 12); });
/// nopspan::gauge("llama.cpp", "slots_busy", 3, 8);
/// @endcode
///
/// While no tracer or handler is attached, each call loads one word (the gate), and callables do not run.
///
/// Thread safety: all functions may be called from any thread at any time.
#ifndef NOPSPAN_EXECUTE_H
#define NOPSPAN_EXECUTE_H

#include <nopspan/config.h>
#include <nopspan/context.h>
#include <nopspan/detail/point.h>
#include <nopspan/fields.h>
#include <nopspan/gate.h>
#include <nopspan/name.h>
#include <nopspan/text.h>

#include <cstdint>
#include <type_traits>

namespace nopspan {

/// Emits one event with what `fields(Fields&)` sets, and nothing else: no metadata is inherited, no measurement is
/// added. Probes see `event`, handlers an event of that name. The event has the ids of the thread's current span, if
/// there is one. Without a callable it has no fields.
template <class M, std::enable_if_t<std::is_invocable_v<M&, Fields&>, int> = 0>
inline void execute(Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, nullptr, fields);
}
/// @overload
inline void execute(Name name) {
  execute(name, [](Fields&) {});
}

/// The same for a context that was kept (Context::current(), span.context()): the event has the ids of its span.
template <class M>
inline void execute(const Context& context, Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, &context, fields);
}
/// @overload
inline void execute(const Context& context, Name name) {
  execute(context, name, [](Fields&) {});
}

/// Reports a gauge of an engine or instance. Probes see `gauge`, handlers the event `engine.stats` (measurement:
/// `name`; metadata: engine, gauge, maximum). A `maximum` of 0 means that there is none. A negative value does not
/// reach the probes, and is counted (stats().values_clamped).
inline void gauge(Text engine, Text name, std::int64_t value, std::int64_t maximum = 0) noexcept {
  if (detail::points_wanted()) detail::emit_gauge(engine, name, value, maximum);
}

}  // namespace nopspan

#endif  // NOPSPAN_EXECUTE_H
