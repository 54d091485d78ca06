// SPDX-License-Identifier: Apache-2.0
/// @file
/// The fields of a span or event: metadata (values of any type) and measurements (numbers). A program meets Fields as
/// the argument of its callables.
///
/// @code
/// auto metadata = [](nopspan::Fields& f) {  // as the second argument of a Span
///   f.set("table", "orders").set("cached", false);  // metadata
///   f.measure("rows", 42);                          // a number to be summed and averaged
///   f.content("statement", "SELECT …");             // reaches probes only if content is wanted
/// };
/// @endcode
///
/// Thread safety: a Fields belongs to the thread that runs the callable.
#ifndef NOPSPAN_FIELDS_H
#define NOPSPAN_FIELDS_H

#include <nopspan/config.h>
#include <nopspan/detail/field_calls.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>

namespace nopspan {

/// Sets the fields of one span or event. It exists only inside a callable that nopspan calls, and nopspan calls it only
/// if a tracer or handler is attached: what the callable computes is computed for them alone.
///
/// - Everything given is copied before a setter returns.
/// - Setting a key again replaces its value.
/// - A span has at most 128 keys and 16 MiB. Fields beyond that are left out whole and counted
/// (stats().fields_dropped), as
///   is a null or empty key.
/// - The keys engine, model and tenant are labels: see label().
class Fields {
 public:
  /// For nopspan: programs receive a Fields.
  explicit Fields(detail::FieldSink* sink) noexcept : sink_(sink) {}

  /// Sets metadata: null, bool, integer, double, string or Value. An integer over 2^63-1 becomes 2^63-1, and is counted
  /// (stats().values_clamped). A null pointer to characters is null.
  template <class T>
  Fields& set(Text key, const T& value) {
    detail::put(sink_, key, value, false);
    return *this;
  }

  /// Sets metadata: a list of strings.
  Fields& set(Text key, std::initializer_list<Text> values) { return set(key, values.begin(), values.size()); }
  /// Sets metadata: a list of `count` strings.
  Fields& set(Text key, const Text* values, std::size_t count) {
    detail::put_texts(sink_, key, values, count);
    return *this;
  }

  /// Sets metadata that is content: prompts, responses, results, arguments of tools. Handlers always receive it.
  /// Probes, and so files and exporters, receive it only with capture_content(true) or NOPSPAN_CAPTURE_CONTENT=1. In a
  /// catalogue's spans and events the keys that docs/genai.md marks as content are content by set() too.
  template <class T>
  Fields& content(Text key, const T& value) {
    detail::put(sink_, key, value, true);
    return *this;
  }

  /// Sets a measurement: an integer or a double. A measurement that is set at the start of a span is on the start event
  /// only. The names that nopspan measures itself (duration, monotonic_time, system_time) cannot be replaced.
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

  /// The label "engine": the program or service that runs the model ("llama.cpp").
  Fields& engine(Text name) { return set("engine", name); }
  /// The label "model": the name of the model.
  Fields& model(Text name) { return set("model", name); }
  /// The label "tenant": on whose behalf the work is done.
  Fields& tenant(Text name) { return set("tenant", name); }
  /// Sets a label: a string of at most 63 bytes that the spans below inherit, and by which tools group. Use it for keys
  /// with few different values, and never for content.
  ///
  /// - The keys are engine, model, tenant and the first three others that the process uses. Any other key is metadata
  /// of
  ///   this span alone, and is counted (stats().labels_overflow).
  /// - After 4094 different values in one process, new values become "other", and are counted.
  /// - A null or empty value removes the label for the spans below.
  Fields& label(Text key, Text value) {
    detail::put_label(sink_, key, value);
    return *this;
  }

  /// Tokens of the prompt, including those from a cache. Token usage fires the probe `tokens` once, at the end of the
  /// innermost span that has some. A count that is not set is unknown, and is not zero.
  Fields& input_tokens(std::int64_t count) { return set("input_tokens", count); }
  /// Tokens of the response, including those of reasoning.
  Fields& output_tokens(std::int64_t count) { return set("output_tokens", count); }
  /// Tokens of the prompt that came from a cache.
  Fields& cached_tokens(std::int64_t count) { return set("cached_tokens", count); }
  /// Tokens of the response that the model used for reasoning.
  Fields& reasoning_tokens(std::int64_t count) { return set("reasoning_tokens", count); }

  /// Links the span to another one: an engine's step to the requests that it serves. A span has at most 128 links; more
  /// are dropped and counted (stats().links_dropped). An empty context is ignored.
  Fields& link(const Context& context) {
    detail::put_link(sink_, context);
    return *this;
  }

 protected:
  /// @cond INTERNAL
  [[nodiscard]] detail::FieldSink* sink() const noexcept { return sink_; }
  /// @endcond

 private:
  detail::FieldSink* sink_;
};

}  // namespace nopspan

#endif  // NOPSPAN_FIELDS_H
