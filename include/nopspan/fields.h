// SPDX-License-Identifier: Apache-2.0
// What a span or event carries: metadata (context) and measurements (numbers).
#ifndef NOPSPAN_FIELDS_H
#define NOPSPAN_FIELDS_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string_view>
#include <type_traits>

namespace nopspan {

class Context;
class Value;

namespace detail {
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
}  // namespace detail

// Writes the fields of one span or event. Exists only inside a callable that nopspan calls, and only while somebody
// listens: what the callable computes is computed for a listener alone. Everything given is copied before a setter
// returns. A key that is set again takes the later value. Not thread-safe.
//
// At most 128 keys and 16 MiB a span; more are left out whole and counted (stats().fields_dropped), as is a null or
// empty key. The keys engine, model and tenant are the labels of the span's probes (at most 63 bytes) and are inherited
// by the spans below.
class Fields {
 public:
  explicit Fields(detail::FieldSink* sink) noexcept : sink_(sink) {}

  // Metadata: null, bool, integer (over 2^63-1: that, and counted), double, string (null pointer: null), Value.
  template <class T>
  Fields& set(Text key, const T& value) {
    detail::put(sink_, key, value, false);
    return *this;
  }

  // Metadata: a list of strings.
  Fields& set(Text key, std::initializer_list<Text> values) { return set(key, values.begin(), values.size()); }
  Fields& set(Text key, const Text* values, std::size_t count) {
    detail::put_texts(sink_, key, values, count);
    return *this;
  }

  // Metadata that is content: prompts, responses, results, tool arguments. Handlers always see it; probes, files and
  // exporters only with capture_content(true) or NOPSPAN_CAPTURE_CONTENT=1. In a catalogue's span or event the keys
  // that docs/genai.md marks as content are content by set() too.
  template <class T>
  Fields& content(Text key, const T& value) {
    detail::put(sink_, key, value, true);
    return *this;
  }

  // A measurement: an integer or a double. Given at the start of a span it is on the start event only. The names that
  // nopspan measures itself (duration, monotonic_time, system_time) cannot be replaced.
  template <class T>
  Fields& measure(Text key, T number) {
    static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>, "a measurement is an integer or a double");
    if constexpr (std::is_floating_point_v<T>) {
      detail::measure_double(sink_, key, static_cast<double>(number));
    } else if constexpr (std::is_signed_v<T>) {
      detail::measure_int(sink_, key, number);
    } else {
      detail::measure_uint(sink_, key, number);
    }
    return *this;
  }

  Fields& engine(Text name) { return set("engine", name); }
  Fields& model(Text name) { return set("model", name); }
  Fields& tenant(Text name) { return set("tenant", name); }
  // A label: inherited by the spans below, at most 63 bytes. The keys are engine, model, tenant and the first three
  // others that the process uses; any other key is metadata of this span alone, and is counted
  // (stats().labels_overflow). Never content, and for few different values: over 4094 in all, labels become "other".
  // Null and empty take the label away for the spans below.
  Fields& label(Text key, Text value) {
    detail::put_label(sink_, key, value);
    return *this;
  }

  // Token usage; the `tokens` probe fires once, at the end of the innermost span that has some. Absent is not zero.
  Fields& input_tokens(std::int64_t count) { return set("input_tokens", count); }
  Fields& output_tokens(std::int64_t count) { return set("output_tokens", count); }
  Fields& cached_tokens(std::int64_t count) { return set("cached_tokens", count); }
  Fields& reasoning_tokens(std::int64_t count) { return set("reasoning_tokens", count); }

  // Links the span to another one: a decode step to the requests it serves. At most 128 a span; more are counted
  // (stats().links_dropped). An empty context is no link.
  Fields& link(const Context& context) {
    detail::put_link(sink_, context);
    return *this;
  }

 protected:
  [[nodiscard]] detail::FieldSink* sink() const noexcept { return sink_; }

 private:
  detail::FieldSink* sink_;
};

}  // namespace nopspan

#endif  // NOPSPAN_FIELDS_H
