// SPDX-License-Identifier: Apache-2.0
// The calls that set the fields of a span or event, and the choice of the call by the type of the value.
#ifndef NOPSPAN_DETAIL_FIELD_CALLS_H
#define NOPSPAN_DETAIL_FIELD_CALLS_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace nopspan {

class Context;
class Value;

}  // namespace nopspan

namespace nopspan::detail {

struct FieldSink;

NOPSPAN_API NOPSPAN_COLD void put_null(FieldSink*, Text key, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_bool(FieldSink*, Text key, bool value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_int(FieldSink*, Text key, std::int64_t value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_uint(FieldSink*, Text key, std::uint64_t value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_double(FieldSink*, Text key, double value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_text(FieldSink*, Text key, Text value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_texts(FieldSink*, Text key, const Text* values, std::size_t count) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_value(FieldSink*, Text key, const Value& value, bool content) noexcept;
NOPSPAN_API NOPSPAN_COLD void measure_int(FieldSink*, Text key, std::int64_t value) noexcept;
NOPSPAN_API NOPSPAN_COLD void measure_uint(FieldSink*, Text key, std::uint64_t value) noexcept;
NOPSPAN_API NOPSPAN_COLD void measure_double(FieldSink*, Text key, double value) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_label(FieldSink*, Text key, Text value) noexcept;
NOPSPAN_API NOPSPAN_COLD void put_link(FieldSink*, const Context& context) noexcept;

template <class T>
void put(FieldSink* sink, Text key, const T& value, bool content) {
  if constexpr (std::is_same_v<T, std::nullptr_t>) {
    put_null(sink, key, content);
  } else if constexpr (std::is_same_v<T, bool>) {
    put_bool(sink, key, value, content);
  } else if constexpr (std::is_integral_v<T> && std::is_signed_v<T>) {
    put_int(sink, key, value, content);
  } else if constexpr (std::is_integral_v<T>) {
    put_uint(sink, key, value, content);
  } else if constexpr (std::is_floating_point_v<T>) {
    put_double(sink, key, static_cast<double>(value), content);
  } else if constexpr (std::is_convertible_v<const T&, Text>) {
    put_text(sink, key, value, content);
  } else {
    static_assert(std::is_convertible_v<const T&, const Value&>,
                  "a metadata value is null, bool, integer, double, string or nopspan::Value");
    put_value(sink, key, value, content);
  }
}

}  // namespace nopspan::detail

#endif  // NOPSPAN_DETAIL_FIELD_CALLS_H
