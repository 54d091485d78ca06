// SPDX-License-Identifier: Apache-2.0
/// @file
/// Point events and gauges. A point event has a time and no duration. It belongs to the thread's current span, if there
/// is one. If the program has the span object, it may call Span::event() or AsyncSpan::event() instead.
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

/// Emits one event that has only the fields that `fields(Fields&)` sets: it inherits no metadata, and nopspan adds no
/// measurement. The event has the ids of the thread's current span, if there is one. The probe `event` fires. Handlers
/// receive an event of that name. Without a callable the event has no fields.
template <class M, std::enable_if_t<std::is_invocable_v<M&, Fields&>, int> = 0>
inline void execute(Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, nullptr, fields);
}
/// @overload
inline void execute(Name name) {
  execute(name, [](Fields&) {});
}

/// The same, but the event has the ids of the span in `context` (a copy of Context::current() or span.context())
/// instead of the current one.
template <class M>
inline void execute(const Context& context, Name name, M&& fields) {
  if (detail::points_wanted()) detail::point<Fields>(detail::Point::event, name, &context, fields);
}
/// @overload
inline void execute(const Context& context, Name name) {
  execute(context, name, [](Fields&) {});
}

/// Reports the value of a gauge of an engine or instance. The probe `gauge` fires. Handlers receive the event
/// `engine.stats` with a measurement whose key is `name`, and with the metadata engine, gauge and maximum. A `maximum`
/// of 0 means that there is none. The value may be negative: probes receive it as a signed integer.
inline void gauge(Text engine, Text name, std::int64_t value, std::int64_t maximum = 0) noexcept {
  if (detail::points_wanted()) detail::emit_gauge(engine, name, value, maximum);
}

}  // namespace nopspan

#endif  // NOPSPAN_EXECUTE_H
