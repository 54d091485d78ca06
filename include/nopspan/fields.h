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

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/field_calls.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

namespace detail {
struct FieldAccess;
}

/// The setters that Fields, all builders, Span and AsyncSpan have. Each returns the object that it was called on, as
/// its own type, so that calls can be chained. Programs do not use this class directly.
///
/// - Setters copy their arguments before they return.
/// - Setting a key again replaces its value.
/// - Setters do not throw. If a conversion of a value throws (the to_string() of an enum, an iterator of a range), the
///   field is dropped, and counted (stats().metadata_failures).
/// - A span has at most 128 keys of at most 255 bytes each, 16 MiB of fields, and 64 levels of lists and maps. A field
///   beyond one of these limits is dropped as a whole, and counted (stats().fields_dropped). So is a field with a null
///   or empty key.
/// - The keys engine, model and tenant are labels; see label(). The key request_id is the request's id; see
///   request_id().
template <class Self>
class FieldSetters {
 public:
  /// Sets metadata. The type of the value is one of these:
  ///
  /// | type | becomes |
  /// | --- | --- |
  /// | nullptr, bool, integer, floating point | null, bool, integer, double |
  /// | char, and everything that converts to Text | a string; a null `const char*` becomes null |
  /// | an enum | the string of its to_string(), if the enum's namespace has such a function; otherwise an integer |
  /// | a std::chrono duration | an integer, in ns |
  /// | std::optional, or a type like it | the value that it holds; null if it is empty |
  /// | a vector, array, span or other range | a list |
  /// | a std::map, or another range of pairs whose `first` is a string | a map |
  /// | Value | that value |
  ///
  /// An integer over 2^63-1 becomes 2^63-1, and is counted (stats().values_clamped). Declare the `to_string()` of an
  /// enum beside the enum, because one that is declared after the first use of its values here is not found.
  template <class T>
  [[gnu::__always_inline__]] Self& set(Text key, const T& value) {  // or disabled spans would keep `value` in memory
    if (detail::FieldSink* sink = taking()) detail::put(sink, key, value, false);
    return self();
  }
  /// Sets metadata: a list, `set("stop", {"a", "b"})`.
  template <class T>
  Self& set(Text key, std::initializer_list<T> values) {
    return set(key, values.begin(), values.size());
  }
  /// @overload
  Self& set(Text key, std::initializer_list<Text> values) { return set(key, values.begin(), values.size()); }
  /// Sets metadata: a list of `count` values.
  template <class T>
  Self& set(Text key, const T* values, std::size_t count) {
    return set(key, detail::Row<T>{values, count});
  }
  /// Sets metadata: a string of `size` bytes.
  Self& set(Text key, const char* text, std::size_t size) { return set(key, Text(text, size)); }

  /// Sets metadata that is content: prompts, responses, results, arguments of tools. Handlers always receive it. Probes
  /// receive it only with capture_content(true) or NOPSPAN_CAPTURE_CONTENT=1. The same is true for everything that is
  /// made from probes, such as recordings. Keys that mean content, such as "gen_ai.input.messages", are content even
  /// if they are set with set() (docs/genai.md). The value is as for set().
  template <class T>
  [[gnu::__always_inline__]] Self& content(Text key, const T& value) {
    if (detail::FieldSink* sink = taking()) detail::put(sink, key, value, true);
    return self();
  }

  /// Sets content: a list, `content("stop", {"a", "b"})`.
  template <class T>
  Self& content(Text key, std::initializer_list<T> values) {
    return content(key, detail::Row<T>{values.begin(), values.size()});
  }
  /// @overload
  Self& content(Text key, std::initializer_list<Text> values) {
    return content(key, detail::Row<Text>{values.begin(), values.size()});
  }

  /// Sets a measurement: an integer, a double, or a std::chrono duration, which becomes ns. If it is set at the start
  /// of a span, only the start event has it. On a span, the names duration, monotonic_time and system_time are
  /// reserved: such a measurement is dropped and counted (stats().fields_dropped).
  template <class T>
  Self& measure(Text key, T number) {
    if (detail::FieldSink* sink = taking()) detail::put_measurement(sink, key, number);
    return self();
  }

  /// Sets the label "engine": the program or service that runs the model ("llama.cpp").
  Self& engine(Text name) { return set("engine", name); }
  /// Sets the label "model": the name of the model.
  Self& model(Text name) { return set("model", name); }
  /// Sets the label "tenant": the customer or user for whom the work is done.
  Self& tenant(Text name) { return set("tenant", name); }
  /// Sets the id of the request; see Context::with_request_id() for its forms. If a span begins a request, and has the
  /// id when it starts, the request and all spans inside it have that id. The same is true for an event outside of a
  /// request. Anywhere else the id is only metadata of this span, and is counted if it differs from the request's
  /// (stats().trace_ids_differ). An empty id is ignored. The id is known only if the span is recorded. A ContextScope
  /// with the id works always.
  Self& request_id(Text id) { return id.empty() ? self() : set("request_id", id); }
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
  /// - `set("tenant", 7)` sets the label "7". Other values are no label, and are counted (stats().values_clamped).
  /// - Handlers receive the labels of a span in its metadata, also those that it inherits.
  Self& label(Text key, Text value) {
    if (detail::FieldSink* sink = taking()) detail::put_label(sink, key, value);
    return self();
  }

  /// Sets the tokens of the prompt, including those from a cache. If a span has token usage, its end fires the probe
  /// `tokens`, unless a span inside it has already reported usage. A count that is not set is unknown, not zero.
  Self& input_tokens(std::int64_t count) { return set("input_tokens", count); }
  /// Sets the tokens of the response, including those of reasoning.
  Self& output_tokens(std::int64_t count) { return set("output_tokens", count); }
  /// Sets the tokens of the prompt that came from a cache.
  Self& cached_tokens(std::int64_t count) { return set("cached_tokens", count); }
  /// Sets the tokens of the response that the model used for reasoning.
  Self& reasoning_tokens(std::int64_t count) { return set("reasoning_tokens", count); }

  /// Links the span to another one, for example that of the message that it processes. A span has at most 128 links.
  /// More are dropped and counted (stats().links_dropped). An empty context is ignored. A link of an engine's step
  /// becomes a member of it; see nopspan/engine.h. So a step may have more of them. If a step is linked to a span that
  /// is not recorded, the link is dropped and counted, because nothing identifies the request. Use a Member instead.
  Self& link(ContextRef context) {
    if (detail::FieldSink* sink = taking()) detail::put_link(sink, context);
    return self();
  }

 private:
  Self& self() noexcept { return static_cast<Self&>(*this); }
  detail::FieldSink* taking() noexcept;  // null: the span is not recorded
};

/// Sets the fields of one span or event. It exists only inside a callable that nopspan calls. nopspan calls it only if
/// a tracer or handler is attached, so a disabled span computes no fields. FieldSetters has the setters.
class Fields : public FieldSetters<Fields> {
 public:
  /// For nopspan: programs receive a Fields.
  explicit Fields(detail::FieldSink* sink) noexcept : sink_(sink) {}

 protected:
  /// @cond INTERNAL
  [[nodiscard]] detail::FieldSink* sink() const noexcept { return sink_; }
  /// @endcond

 private:
  friend struct detail::FieldAccess;
  detail::FieldSink* sink_;
};

/// A Fields whose setters return the type of a catalogue's builder. Programs do not use this class directly.
template <class Self>
class BuilderOf : public Fields, public FieldSetters<Self> {
 public:
  using Fields::Fields;
  using FieldSetters<Self>::set;               ///< see FieldSetters
  using FieldSetters<Self>::content;           ///< see FieldSetters
  using FieldSetters<Self>::measure;           ///< see FieldSetters
  using FieldSetters<Self>::engine;            ///< see FieldSetters
  using FieldSetters<Self>::model;             ///< see FieldSetters
  using FieldSetters<Self>::tenant;            ///< see FieldSetters
  using FieldSetters<Self>::request_id;        ///< see FieldSetters
  using FieldSetters<Self>::label;             ///< see FieldSetters
  using FieldSetters<Self>::input_tokens;      ///< see FieldSetters
  using FieldSetters<Self>::output_tokens;     ///< see FieldSetters
  using FieldSetters<Self>::cached_tokens;     ///< see FieldSetters
  using FieldSetters<Self>::reasoning_tokens;  ///< see FieldSetters
  using FieldSetters<Self>::link;              ///< see FieldSetters
};

namespace detail {

struct FieldAccess {
  // Never null, which saves the test in each setter.
  static FieldSink* sink(const Fields& fields) noexcept {
    if (fields.sink_ == nullptr) __builtin_unreachable();
    return fields.sink_;
  }
  template <class Span>
  static auto sink(const Span& span) noexcept -> decltype(sink_of(span.state_)) {
    return sink_of(span.state_);
  }
};

}  // namespace detail

template <class Self>
inline detail::FieldSink* FieldSetters<Self>::taking() noexcept {
  detail::FieldSink* sink = detail::FieldAccess::sink(self());
  return __builtin_expect(sink != nullptr, 0) ? sink : nullptr;
}

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_FIELDS_H
