// SPDX-License-Identifier: Apache-2.0
// The calls that set the fields of a span or event, and the choice of the call by the type of the value.
#ifndef NOPSPAN_DETAIL_FIELD_CALLS_H
#define NOPSPAN_DETAIL_FIELD_CALLS_H

#include <nopspan/context.h>
#include <nopspan/detail/config.h>
#include <nopspan/detail/guarded.h>
#include <nopspan/detail/short_key.h>
#include <nopspan/detail/value_types.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

namespace engine {
struct Member;
}

}  // namespace NOPSPAN_NAMESPACE

namespace NOPSPAN_NAMESPACE::detail {

struct FieldSink;

NOPSPAN_API NOPSPAN_COLD void put_null(FieldSink*, Text key, bool content) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_bool(FieldSink*, Text key, bool value, bool content) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_int(FieldSink*, Text key, std::int64_t value, bool content) noexcept
    NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_uint(FieldSink*, Text key, std::uint64_t value, bool content) noexcept
    NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_double(FieldSink*, Text key, double value, bool content) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_text(FieldSink*, Text key, Text value, bool content) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_value(FieldSink*, Text key, const Value& value, bool content) noexcept
    NOPSPAN_IN_SHELL();
// The same for a ShortKey: its two words, and its size_and_bit. The value is not content.
NOPSPAN_API NOPSPAN_COLD void put_short_bool(FieldSink*, std::uint64_t, std::uint64_t, std::uint32_t, bool) noexcept
    NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_short_int(FieldSink*, std::uint64_t, std::uint64_t, std::uint32_t,
                                            std::int64_t) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_short_double(FieldSink*, std::uint64_t, std::uint64_t, std::uint32_t, double) noexcept
    NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_short_text(FieldSink*, std::uint64_t, std::uint64_t, std::uint32_t, const char* text,
                                             std::size_t size) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void measure_int(FieldSink*, Text key, std::int64_t value) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void measure_uint(FieldSink*, Text key, std::uint64_t value) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void measure_double(FieldSink*, Text key, double value) noexcept NOPSPAN_IN_SHELL();
// Measurements of engine.stats: a counter, and a gauge whose name has a label: "waiting{reason=capacity}".
NOPSPAN_API NOPSPAN_COLD void measure_counter(FieldSink*, Text name, std::int64_t total) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void measure_labelled(FieldSink*, Text name, Text key, Text value,
                                               std::int64_t number) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_label(FieldSink*, Text key, Text value) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_link(FieldSink*, ContextRef context) noexcept NOPSPAN_IN_SHELL();
// The facts of a step that are not fields. A count or time over 2^63-1 was negative.
enum class StepFact : std::uint8_t { kind, instance, number, drafted, accepted, budget, host_ns, device_ns, kv_used };
NOPSPAN_API NOPSPAN_COLD void put_step(FieldSink*, StepFact fact, std::uint64_t value) noexcept NOPSPAN_IN_SHELL();
NOPSPAN_API NOPSPAN_COLD void put_members(FieldSink*, const engine::Member* members, std::size_t count) noexcept
    NOPSPAN_IN_SHELL();

// A list or map that the library is writing, and an item of it.
struct ItemWriter;
struct Item {
  enum class Type : std::uint8_t { null, boolean, integer, natural, real, text, value, list, map };
  using Fill = void (*)(ItemWriter*, const void* range);

  Type type = Type::null;
  std::uint64_t word = 0;
  double real = 0;
  Text text;
  const void* object = nullptr;  // the Value, or the range
  Fill fill = nullptr;           // calls add_item() for each item of the range
};
NOPSPAN_API NOPSPAN_COLD void put_items(FieldSink*, Text key, const Item& items, bool content) NOPSPAN_IN_SHELL();
// Returns false if the list or map has reached a limit, so that a range without an end is not read for ever.
NOPSPAN_API NOPSPAN_COLD bool add_item(ItemWriter*, Text key, const Item& item) NOPSPAN_IN_SHELL(return {});

template <ValueKind kind, class Range>
void fill_items(ItemWriter* writer, const void* range);
template <ValueKind kind, class Range>
Item item_of(const Range& range) noexcept {
  const Item::Type type = kind == ValueKind::map ? Item::Type::map : Item::Type::list;
  return {type, 0, 0, {}, &range, fill_items<kind, Range>};
}

// Where give() passes the value of a field on to. Its members are always inlined. Compilers optimize calls of cold
// functions for size, and would write this object to memory for each field.
struct FieldTarget {
  FieldSink* sink;
  Text key;
  bool content;

  [[gnu::__always_inline__]] void null() const { put_null(sink, key, content); }
  [[gnu::__always_inline__]] void boolean(bool value) const {
    if (const ShortKey known = short_key(); known.size_and_bit != 0) {
      put_short_bool(sink, known.word[0], known.word[1], known.size_and_bit, value);
    } else {
      put_bool(sink, key, value, content);
    }
  }
  [[gnu::__always_inline__]] void integer(std::int64_t value) const {
    if (const ShortKey known = short_key(); known.size_and_bit != 0) {
      put_short_int(sink, known.word[0], known.word[1], known.size_and_bit, value);
    } else {
      put_int(sink, key, value, content);
    }
  }
  [[gnu::__always_inline__]] void natural(std::uint64_t value) const { put_uint(sink, key, value, content); }
  [[gnu::__always_inline__]] void real(double value) const {
    if (const ShortKey known = short_key(); known.size_and_bit != 0) {
      put_short_double(sink, known.word[0], known.word[1], known.size_and_bit, value);
    } else {
      put_double(sink, key, value, content);
    }
  }
  [[gnu::__always_inline__]] void text(Text value) const {
    if (const ShortKey known = short_key(); known.size_and_bit != 0) {
      put_short_text(sink, known.word[0], known.word[1], known.size_and_bit, value.data(), value.size());
    } else {
      put_text(sink, key, value, content);
    }
  }
  [[gnu::__always_inline__]] void value(const Value& value) const { put_value(sink, key, value, content); }
  template <ValueKind kind, class Range>
  void items(const Range& range) const {
    put_items(sink, key, item_of<kind>(range), content);
  }
  [[gnu::__always_inline__]] [[nodiscard]] ShortKey short_key() const noexcept {
    return __builtin_constant_p(content) && !content ? detail::short_key(key) : ShortKey();
  }
};

// The same for an item of a list or map.
struct ItemTarget {
  ItemWriter* writer;
  Text key;
  bool more = true;

  void null() { more = add_item(writer, key, {}); }
  void boolean(bool value) {
    more = add_item(writer, key, {Item::Type::boolean, value ? 1U : 0U, 0, {}, nullptr, nullptr});
  }
  void integer(std::int64_t value) {
    more = add_item(writer, key, {Item::Type::integer, static_cast<std::uint64_t>(value), 0, {}, nullptr, nullptr});
  }
  void natural(std::uint64_t value) {
    more = add_item(writer, key, {Item::Type::natural, value, 0, {}, nullptr, nullptr});
  }
  void real(double value) { more = add_item(writer, key, {Item::Type::real, 0, value, {}, nullptr, nullptr}); }
  void text(Text value) { more = add_item(writer, key, {Item::Type::text, 0, 0, value, nullptr, nullptr}); }
  void value(const Value& value) { more = add_item(writer, key, {Item::Type::value, 0, 0, {}, &value, nullptr}); }
  template <ValueKind kind, class Range>
  void items(const Range& range) {
    more = add_item(writer, key, item_of<kind>(range));
  }
};

template <ValueKind kind, class Range>
void fill_items(ItemWriter* writer, const void* range) {
  for (const auto& item : *static_cast<const Range*>(range)) {
    ItemTarget target{writer, {}};
    if constexpr (kind == ValueKind::map) {
      target.key = item.first;
      give(item.second, target);
    } else {
      give(item, target);
    }
    if (!target.more) return;
  }
}

template <class T>
[[gnu::__always_inline__]] inline void put(FieldSink* sink, Text key, const T& value, bool content) {
  static_assert(is_value<T>(),
                "a value is null, a bool, a number, a text, an enum, a std::chrono duration, a nopspan::Value, or an "
                "optional or a range of these");
  if constexpr (is_value<T>() && may_throw<T>()) {
    guarded([&]() __attribute__((__always_inline__)) { give(value, FieldTarget{sink, key, content}); });
  } else if constexpr (is_value<T>()) {
    give(value, FieldTarget{sink, key, content});
  }
}

// Some values in a row.
template <class T>
struct Row {
  const T* first;
  std::size_t count;
  [[nodiscard]] const T* begin() const noexcept { return first; }
  [[nodiscard]] const T* end() const noexcept { return first == nullptr ? first : first + count; }
};

template <class T>
void put_measurement(FieldSink* sink, Text key, const T& number) {
  constexpr ValueKind kKind = kind_of<T>();
  static_assert(kKind == ValueKind::integer || kKind == ValueKind::real || kKind == ValueKind::duration,
                "a measurement is an integer, a double or a std::chrono duration");
  if constexpr (is_duration<T>) {
    guarded([&] { measure_int(sink, key, in_units<1>(number)); });
  } else if constexpr (std::is_floating_point_v<T>) {
    measure_double(sink, key, static_cast<double>(number));
  } else if constexpr (std::is_unsigned_v<T>) {
    measure_uint(sink, key, number);
  } else if constexpr (std::is_integral_v<T>) {
    measure_int(sink, key, number);
  }
}

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_FIELD_CALLS_H
