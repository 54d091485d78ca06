// SPDX-License-Identifier: Apache-2.0
// The calls for an event that is not the start or end of a span: a point in time.
#ifndef NOPSPAN_DETAIL_POINT_H
#define NOPSPAN_DETAIL_POINT_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/gate.h>
#include <nopspan/detail/span_calls.h>
#include <nopspan/fields.h>
#include <nopspan/types.h>

#include <cstdint>

namespace nopspan::detail {

// Which probe an event fires, and what handlers see in addition to its fields.
enum class Point : std::uint8_t {
  event,          // probe `event`
  timed,          // the same; handlers see the measurement system_time
  retry,          // probe `retry`; handlers see system_time and request_id
  first_token,    // probe `first_token`, if it is the span's first
  handlers_only,  // no probe, because another call fires the probe of the same fact
  engine_stats,   // probe `gauge`, once for each integer among its measurements
};

NOPSPAN_API NOPSPAN_COLD FieldSink* point_begin(Point point, Name name, ContextRef span) noexcept;
NOPSPAN_API NOPSPAN_COLD void point_emit(FieldSink*) noexcept;
NOPSPAN_API NOPSPAN_COLD void point_discard(FieldSink*) noexcept;
// For an event that point_begin() began: probe `gauge`.
NOPSPAN_API NOPSPAN_COLD void gauge_emit(FieldSink*, Text name, std::int64_t value, bool is_counter) noexcept;

template <class F, class Fill>
inline void point(Point which, Name name, ContextRef span, Fill&& callable) {
  FieldSink* sink = point_begin(which, name, span);
  if (sink == nullptr) return;
  fill_begun<F, point_discard>(sink, callable);
  point_emit(sink);
}

// An event that has only the fields that the program sets.
template <class N, class Fill>
inline void event_of(ContextRef span, N&& name, Fill&& callable) {
  if constexpr (!is_name<N>) {
    report_wrong_name<N>();
  } else if constexpr (!takes<Fill, Fields>()) {
    report_wrong_fields<Fill, Fields>();
  } else if (points_wanted()) {
    point<Fields>(Point::event, Name(name), span, callable);
  }
}

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_POINT_H
