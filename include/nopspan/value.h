// SPDX-License-Identifier: Apache-2.0
// A value of any shape that metadata can have.
#ifndef NOPSPAN_VALUE_H
#define NOPSPAN_VALUE_H

#include <nopspan/config.h>
#include <nopspan/text.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace nopspan {

// Null, bool, integer, double, string, list or map, nested; maps keep the order of insertion. An integer stays an
// integer and a double a double. An ordinary value: copying copies, and it is as thread-safe as a std::string.
class Value {
 public:
  enum class Type : std::uint8_t { null, boolean, integer, real, string, list, map };
  using List = std::vector<Value>;
  using Map = std::vector<std::pair<std::string, Value>>;

  Value() noexcept = default;
  Value(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
  // Integers over 2^63-1 become that. A null pointer becomes null.
  template <class T, std::enable_if_t<std::is_arithmetic_v<T>, int> = 0>
  Value(T number) noexcept {  // NOLINT(*-explicit-*)
    if constexpr (std::is_same_v<T, bool>) {
      type_ = Type::boolean;
      integer_ = number ? 1 : 0;
    } else if constexpr (std::is_floating_point_v<T>) {
      type_ = Type::real;
      real_ = static_cast<double>(number);
    } else {
      type_ = Type::integer;
      if constexpr (std::is_unsigned_v<T> && sizeof(T) == 8) {
        integer_ = number > static_cast<T>(INT64_MAX) ? INT64_MAX : static_cast<std::int64_t>(number);
      } else {
        integer_ = static_cast<std::int64_t>(number);
      }
    }
  }
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, Text> && !std::is_arithmetic_v<S> &&
                                          !std::is_same_v<S, std::nullptr_t>,
                                      int> = 0>
  Value(const S& text) {  // NOLINT(*-explicit-*)
    const Text given(text);
    if (given.is_null()) return;
    type_ = Type::string;
    string_.assign(given.data(), given.size());
  }
  Value(List list) noexcept : type_(Type::list), list_(std::move(list)) {}  // NOLINT(*-explicit-*)
  Value(Map map) noexcept : type_(Type::map), map_(std::move(map)) {}       // NOLINT(*-explicit-*)

  static Value list(std::initializer_list<Value> items = {}) { return Value(List(items)); }
  static Value map(std::initializer_list<Map::value_type> items = {}) { return Value(Map(items)); }

  [[nodiscard]] Type type() const noexcept { return type_; }
  [[nodiscard]] bool is_null() const noexcept { return type_ == Type::null; }

  // The value, if it has that type; otherwise `fallback`. No conversion, but that as_double() takes an integer too.
  [[nodiscard]] bool as_bool(bool fallback = false) const noexcept {
    return type_ == Type::boolean ? integer_ != 0 : fallback;
  }
  [[nodiscard]] std::int64_t as_int(std::int64_t fallback = 0) const noexcept {
    return type_ == Type::integer ? integer_ : fallback;
  }
  [[nodiscard]] double as_double(double fallback = 0) const noexcept {
    return type_ == Type::real ? real_ : type_ == Type::integer ? static_cast<double>(integer_) : fallback;
  }
  [[nodiscard]] std::string_view as_string(std::string_view fallback = {}) const noexcept {
    return type_ == Type::string ? std::string_view(string_) : fallback;
  }
  // Empty, if it is no list (map).
  [[nodiscard]] const List& as_list() const noexcept { return list_; }
  [[nodiscard]] const Map& as_map() const noexcept { return map_; }
  // The value under a key of a map; null (the pointer), if it is no map or has no such key.
  [[nodiscard]] NOPSPAN_API const Value* find(std::string_view key) const noexcept;
  // Adds to a map, or replaces what is under that key; makes a map of what is none.
  NOPSPAN_API Value& set(std::string_view key, Value value);

  // Maps are equal whatever the order of their keys; 1 and 1.0 differ.
  NOPSPAN_API friend bool operator==(const Value& a, const Value& b) noexcept;
  friend bool operator!=(const Value& a, const Value& b) noexcept { return !(a == b); }

  // As JSON, for messages.
  [[nodiscard]] NOPSPAN_API std::string to_string() const;

 private:
  Type type_ = Type::null;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  List list_;
  Map map_;
};

NOPSPAN_API bool operator==(const Value& a, const Value& b) noexcept;

}  // namespace nopspan

#endif  // NOPSPAN_VALUE_H
