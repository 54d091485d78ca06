// SPDX-License-Identifier: Apache-2.0
/// @file
/// The fields of a span or event: metadata (values of any type) and measurements (numbers). A program receives a Fields
/// as the argument of the callables that it passes to nopspan.
///
/// @code
/// auto metadata = [](nopspan::Fields& f) {  // as the second argument of a Span
///   f.set("table", "orders").set("cached", false);  // metadata
///   f.measure("rows", 42);                          // a number to be summed and averaged
///   f.content("statement", "SELECT …");             // reaches probes only with capture_content(true)
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

/// Sets the fields of one span or event. It exists only inside a callable that nopspan calls. nopspan calls it only if
/// a tracer or handler is attached, so a disabled span computes no fields.
///
/// - Setters copy their arguments before they return.
/// - Setting a key again replaces its value.
/// - A span has at most 128 keys of at most 255 bytes each, 16 MiB of fields, and 64 levels of lists and maps. A field
///   beyond one of these limits is dropped as a whole, and counted (stats().fields_dropped). So is a field with a null
///   or empty key.
/// - The keys engine, model and tenant are labels; see label().
class Fields {
 public:
  /// For nopspan: programs receive a Fields.
  explicit Fields(detail::FieldSink* sink) noexcept : sink_(sink) {}

  /// Sets metadata: null, bool, integer, double, string or Value. An integer over 2^63-1 becomes 2^63-1, and is counted
  /// (stats().values_clamped). A null `const char*` becomes null.
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

  /// Sets metadata that is content: prompts, responses, results, arguments of tools. Handlers always receive it. Probes
  /// receive it only with capture_content(true) or NOPSPAN_CAPTURE_CONTENT=1. The same is true for everything that is
  /// made from probes, such as recordings. In a catalogue's spans and events, the keys that docs/genai.md marks as
  /// content are content, even if they are set with set().
  template <class T>
  Fields& content(Text key, const T& value) {
    detail::put(sink_, key, value, true);
    return *this;
  }

  /// Sets a measurement: an integer or a double. If it is set at the start of a span, only the start event has it. On a
  /// span, the names duration, monotonic_time and system_time are reserved: such a measurement is dropped and counted
  /// (stats().fields_dropped).
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

  /// Sets the label "engine": the program or service that runs the model ("llama.cpp").
  Fields& engine(Text name) { return set("engine", name); }
  /// Sets the label "model": the name of the model.
  Fields& model(Text name) { return set("model", name); }
  /// Sets the label "tenant": the customer or user for whom the work is done.
  Fields& tenant(Text name) { return set("tenant", name); }
  /// Sets a label: a string that child spans inherit, and by which tools group. Use labels for keys with few
  /// different values, and never for content.
  ///
  /// - The keys are engine, model, tenant and the first three others that the process uses. Any other key is metadata
  ///   of this span alone, and is counted (stats().labels_overflow).
  /// - A value of more than 63 bytes is truncated, and counted (stats().truncated).
  /// - A process keeps 4000 different values of engine and model together, and 4000 of all other labels. Each of the
  ///   three other keys counts as one of the latter. A new value beyond that becomes "other", and is counted
  ///   (stats().labels_overflow).
  /// - A null or empty value removes the label, so child spans do not inherit it.
  Fields& label(Text key, Text value) {
    detail::put_label(sink_, key, value);
    return *this;
  }

  /// Sets the tokens of the prompt, including those from a cache. If a span has token usage, its end fires the probe
  /// `tokens`, unless a span inside it has already reported usage. A count that is not set is unknown, not zero.
  Fields& input_tokens(std::int64_t count) { return set("input_tokens", count); }
  /// Sets the tokens of the response, including those of reasoning.
  Fields& output_tokens(std::int64_t count) { return set("output_tokens", count); }
  /// Sets the tokens of the prompt that came from a cache.
  Fields& cached_tokens(std::int64_t count) { return set("cached_tokens", count); }
  /// Sets the tokens of the response that the model used for reasoning.
  Fields& reasoning_tokens(std::int64_t count) { return set("reasoning_tokens", count); }

  /// Links the span to another one, for example the step of an engine to the requests that it serves. A span has at
  /// most 128 links. More are dropped and counted (stats().links_dropped). An empty context is ignored.
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
