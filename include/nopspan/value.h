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

#include <nopspan/detail/config.h>
#include <nopspan/detail/value_types.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace nopspan {

/// A value that owns its contents. A copy copies them. Lists and maps may be nested. Maps keep the order of insertion.
/// Integers and doubles are different types, and are not converted into each other. Values may be nested to any depth:
/// they are copied, compared, printed and destroyed without recursion. To copy, compare or print a nested value takes
/// memory for the work, and throws std::bad_alloc if there is none.
class NOPSPAN_CONTAINER_ABI Value {
 public:
  /// The types.
  enum class Type : std::uint8_t { null, boolean, integer, real, string, list, map };
  using List = std::vector<Value>;                         ///< the items of a list
  using Map = std::vector<std::pair<std::string, Value>>;  ///< the entries of a map

  /// Null.
  Value() noexcept = default;
  /// A value of one of the types that FieldSetters::set() lists. Integers over 2^63-1 become 2^63-1. Texts are copied.
  // The kind is not compared with ValueKind::none: in C++20, gcc 16 then looks for operators of Value, which needs this
  // constructor.
  template <class T, std::enable_if_t<static_cast<bool>(detail::kind_of<T>()), int> = 0>
  Value(const T& value) noexcept(std::is_arithmetic_v<T>) {  // NOLINT(*-explicit-*)
    detail::give(value, Target{*this});
  }
  /// Copies the contents.
  Value(const Value& other) : Value(leaf_of(other)) {
    if (other.has_items()) copy_items(other);
  }
  /// Moves the contents.
  Value(Value&& other) noexcept = default;
  /// Copies the contents.
  Value& operator=(const Value& other) { return *this = Value(other); }
  /// Moves the contents. `other` may be inside this value.
  Value& operator=(Value&& other) noexcept {
    Value taken(std::move(other));
    swap(taken);
    return *this;
  }
  /// Destroys the contents.
  ~Value() {
    if (has_items()) destroy_items();
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
  /// @{
  /// The items of a list; empty for other types. Of a temporary, they are moved out of it.
  [[nodiscard]] const List& as_list() const& noexcept { return list_; }
  [[nodiscard]] List as_list() && noexcept { return std::move(list_); }
  /// @}
  /// @{
  /// The entries of a map; empty for other types. Of a temporary, they are moved out of it.
  [[nodiscard]] const Map& as_map() const& noexcept { return map_; }
  [[nodiscard]] Map as_map() && noexcept { return std::move(map_); }
  /// @}
  /// The value under a key of a map, valid until the map changes. A null pointer if the value is not a map or lacks the
  /// key.
  [[nodiscard]] NOPSPAN_API const Value* find(std::string_view key) const& noexcept;
  /// The same for a temporary, from which the value is moved. Empty if the value is not a map or lacks the key.
  [[nodiscard]] NOPSPAN_API std::optional<Value> find(std::string_view key) &&;
  /// Adds an entry to a map, or replaces the value under that key. A value of another type becomes a map first. Returns
  /// this value.
  NOPSPAN_API Value& set(std::string_view key, Value value);

  /// Whether type and contents are equal. The order of a map's keys does not matter; 1 and 1.0 differ.
  NOPSPAN_API friend bool operator==(const Value& a, const Value& b);
  /// The opposite of ==.
  friend bool operator!=(const Value& a, const Value& b) { return !(a == b); }

  /// The value as JSON, for messages.
  [[nodiscard]] NOPSPAN_API std::string to_string() const;

 private:
  [[nodiscard]] bool has_items() const noexcept { return !list_.empty() || !map_.empty(); }
  // A copy without the items.
  static Value leaf_of(const Value& other);
  NOPSPAN_API void copy_items(const Value& other);
  NOPSPAN_API void destroy_items() noexcept;
  void swap(Value& other) noexcept {
    std::swap(type_, other.type_);
    std::swap(integer_, other.integer_);
    std::swap(real_, other.real_);
    string_.swap(other.string_);
    list_.swap(other.list_);
    map_.swap(other.map_);
  }

  // Where detail::give() passes the value on to.
  struct Target {
    Value& made;

    void null() const noexcept {}
    void boolean(bool value) const noexcept {
      made.type_ = Type::boolean;
      made.integer_ = value ? 1 : 0;
    }
    void integer(std::int64_t value) const noexcept {
      made.type_ = Type::integer;
      made.integer_ = value;
    }
    void natural(std::uint64_t value) const noexcept { integer(detail::clamped_integer(value)); }
    void real(double value) const noexcept {
      made.type_ = Type::real;
      made.real_ = value;
    }
    void text(Text value) const {
      if (value.is_null()) return;
      made.type_ = Type::string;
      made.string_.assign(value.data(), value.size());
    }
    void value(const Value& value) const { made = value; }
    template <detail::ValueKind kind, class Range>
    void items(const Range& range) const {
      made.type_ = kind == detail::ValueKind::map ? Type::map : Type::list;
      for (const auto& item : range) {
        if constexpr (kind == detail::ValueKind::map) {
          made.map_.emplace_back(Text(item.first).view(), item.second);
        } else {
          made.list_.emplace_back(item);
        }
      }
    }
  };

  Type type_ = Type::null;
  std::int64_t integer_ = 0;
  double real_ = 0;
  std::string string_;
  List list_;
  Map map_;
};

inline Value Value::leaf_of(const Value& other) {
  Value leaf;
  leaf.type_ = other.type_;
  leaf.integer_ = other.integer_;
  leaf.real_ = other.real_;
  leaf.string_ = other.string_;
  return leaf;
}

}  // namespace nopspan

#endif  // NOPSPAN_VALUE_H
