// SPDX-License-Identifier: Apache-2.0
/// @file
/// A value of any type that metadata may have: null, bool, integer, double, string, list or map.
///
/// @code
/// nopspan::Value usage = nopspan::Value::map({{"input", 12}, {"tags", nopspan::Value::list({"a", "b"})}});
/// usage.set("output", 34);
/// std::int64_t input = usage.find("input")->as_int();
/// @endcode
///
/// Thread safety: a Value is an ordinary value, as thread-safe as a std::string.
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

/// A value that owns its contents. A copy copies them. Lists and maps may be nested. Maps keep the order of insertion.
/// Integers and doubles are different types, and are not converted into each other.
/// To copy, compare, print or destroy a value, up to 500 bytes of stack are used for each level of nesting.
class Value {
 public:
  /// The types.
  enum class Type : std::uint8_t { null, boolean, integer, real, string, list, map };
  using List = std::vector<Value>;                         ///< the items of a list
  using Map = std::vector<std::pair<std::string, Value>>;  ///< the entries of a map

  /// Null.
  Value() noexcept = default;
  /// Null.
  Value(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
  /// A bool, integer or double. An integer over 2^63-1 becomes 2^63-1.
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
        integer_ = static_cast<std::int64_t>(number);  // NOLINT(bugprone-signed-char-misuse): it is a number
      }
    }
  }
  /// A string, which is copied; a null pointer gives null.
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, Text> && !std::is_arithmetic_v<S> &&
                                          !std::is_same_v<S, std::nullptr_t>,
                                      int> = 0>
  Value(const S& text) {  // NOLINT(*-explicit-*)
    const Text given(text);
    if (given.is_null()) return;
    type_ = Type::string;
    string_.assign(given.data(), given.size());
  }
  /// A list.
  Value(List list) noexcept : type_(Type::list), list_(std::move(list)) {}  // NOLINT(*-explicit-*)
  /// A map. Its keys should be different.
  Value(Map map) noexcept : type_(Type::map), map_(std::move(map)) {}  // NOLINT(*-explicit-*)

  /// A list of the items.
  static Value list(std::initializer_list<Value> items = {}) { return Value(List(items)); }
  /// A map of the entries.
  static Value map(std::initializer_list<Map::value_type> items = {}) { return Value(Map(items)); }

  /// The type of the value.
  [[nodiscard]] Type type() const noexcept { return type_; }
  /// Whether it is null.
  [[nodiscard]] bool is_null() const noexcept { return type_ == Type::null; }

  /// @{
  /// The value if it has that type, otherwise `fallback`. Nothing is converted, except that as_double() also accepts an
  /// integer. The view of as_string() is valid until the value changes.
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
  /// @}
  /// The items of a list; empty for other types.
  [[nodiscard]] const List& as_list() const noexcept { return list_; }
  /// The entries of a map; empty for other types.
  [[nodiscard]] const Map& as_map() const noexcept { return map_; }
  /// The value under a key of a map, valid until the map changes. A null pointer if the value is not a map or lacks the
  /// key.
  [[nodiscard]] NOPSPAN_API const Value* find(std::string_view key) const noexcept;
  /// Adds an entry to a map, or replaces the value under that key. A value of another type becomes a map first. Returns
  /// this value.
  NOPSPAN_API Value& set(std::string_view key, Value value);

  /// Whether type and contents are equal. The order of a map's keys does not matter; 1 and 1.0 differ.
  NOPSPAN_API friend bool operator==(const Value& a, const Value& b) noexcept;
  /// The opposite of ==.
  friend bool operator!=(const Value& a, const Value& b) noexcept { return !(a == b); }

  /// The value as JSON, for messages.
  [[nodiscard]] NOPSPAN_API std::string to_string() const;

 private:
  Type type_ = Type::null;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  List list_;
  Map map_;
};

/// @cond INTERNAL
NOPSPAN_API bool operator==(const Value& a, const Value& b) noexcept;
/// @endcond

}  // namespace nopspan

#endif  // NOPSPAN_VALUE_H
