// SPDX-License-Identifier: Apache-2.0
// Which types a value may have, and how an object of such a type is passed on as a simpler one. It recognizes types of
// the standard library by their members, because their headers are too heavy.
#ifndef NOPSPAN_DETAIL_VALUE_TYPES_H
#define NOPSPAN_DETAIL_VALUE_TYPES_H

#include <nopspan/detail/config.h>
#include <nopspan/types.h>

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

class NOPSPAN_CONTAINER_ABI Value;

}  // namespace NOPSPAN_NAMESPACE

namespace NOPSPAN_NAMESPACE::detail {

enum class ValueKind : std::uint8_t {
  none,  // not a value, except that it may convert to a Value
  null,
  boolean,
  integer,
  real,
  character,
  text,
  enumeration,
  duration,
  optional,
  list,
  map  // a range of pairs whose first is a text
};

template <class T>
using bare = std::remove_cv_t<std::remove_reference_t<T>>;

// A char that is not of a Text. It is no value, because a string of it would become a list of numbers.
template <class T>
inline constexpr bool is_wide_char =
#if defined(__cpp_char8_t)
    std::is_same_v<T, char8_t> ||
#endif
    std::is_same_v<T, wchar_t> || std::is_same_v<T, char16_t> || std::is_same_v<T, char32_t>;

// Whether a class says itself which Value it is. It may also be a range, or even one of itself.
template <class T, class = void>
inline constexpr bool has_value_operator = false;
template <class T>
inline constexpr bool has_value_operator<T, std::void_t<decltype(std::declval<const T&>().operator Value())>> = true;

template <class T>
constexpr ValueKind kind_of() noexcept;
template <class T>
constexpr bool is_value() noexcept;

// Whether argument-dependent lookup finds a to_string() for it that returns a text.
template <class T, class = void>
inline constexpr bool has_to_string = false;
template <class T>
inline constexpr bool has_to_string<T, std::void_t<decltype(to_string(std::declval<const T&>()))>> =
    std::is_convertible_v<decltype(to_string(std::declval<const T&>())), Text>;

// The type that an optional holds, or of a range's items; void if T is neither.
template <class T, class = void>
struct held {
  using type = void;
};
template <class T>
struct held<T, std::void_t<decltype(*std::declval<const T&>()),
                           std::enable_if_t<std::is_same_v<decltype(std::declval<const T&>().has_value()), bool>>>> {
  using type = bare<decltype(*std::declval<const T&>())>;
};
template <class T, class = void>
struct item {
  using type = void;
};
template <class T, std::size_t N>
struct item<T[N], void> {
  using type = T;
};
template <class T>
struct item<T, std::void_t<decltype(std::declval<const T&>().begin() != std::declval<const T&>().end())>> {
  using type = bare<decltype(*std::declval<const T&>().begin())>;
};
template <class T>
using item_t = typename item<T>::type;

template <class T, class = void>
inline constexpr bool is_map_entry = false;
template <class T>
inline constexpr bool
    is_map_entry<T, std::void_t<decltype(std::declval<const T&>().first, std::declval<const T&>().second)>> =
        std::is_convertible_v<decltype((std::declval<const T&>().first)), Text>;

template <class T>
constexpr ValueKind kind_of() noexcept {
  if constexpr (std::is_same_v<T, std::nullptr_t>) {
    return ValueKind::null;
  } else if constexpr (std::is_same_v<T, bool>) {
    return ValueKind::boolean;
  } else if constexpr (std::is_same_v<T, char>) {
    return ValueKind::character;
  } else if constexpr (is_wide_char<T>) {  // NOLINT(bugprone-branch-clone): in this order
    return ValueKind::none;
  } else if constexpr (std::is_integral_v<T> && sizeof(T) <= sizeof(std::int64_t)) {  // NOLINT: T may be a pointer
    return ValueKind::integer;
  } else if constexpr (std::is_floating_point_v<T>) {
    return ValueKind::real;
  } else if constexpr (std::is_enum_v<T>) {
    return ValueKind::enumeration;
  } else if constexpr (std::is_convertible_v<const T&, Text>) {
    return ValueKind::text;
  } else if constexpr (is_duration<T>) {
    return ValueKind::duration;
  } else if constexpr (has_value_operator<T>) {
    return ValueKind::none;
  } else if constexpr (!std::is_void_v<typename held<T>::type>) {
    return is_value<typename held<T>::type>() ? ValueKind::optional : ValueKind::none;
  } else if constexpr (std::is_same_v<item_t<T>, T> || std::is_void_v<item_t<T>>) {  // a path is a range of paths
    return ValueKind::none;
  } else if constexpr (is_map_entry<item_t<T>>) {
    return is_value<bare<decltype(std::declval<const item_t<T>&>().second)>>() ? ValueKind::map : ValueKind::none;
  } else {
    return is_value<item_t<T>>() ? ValueKind::list : ValueKind::none;
  }
}

template <class T>
constexpr bool is_value() noexcept {
  if constexpr (kind_of<T>() != ValueKind::none) {
    return true;
  } else {
    return std::is_convertible_v<const T&, const Value&>;
  }
}

// Whether give() may call code of the application that throws: a conversion, an iterator, an arithmetic type.
template <class T>
constexpr bool may_throw() noexcept {
  constexpr ValueKind kKind = kind_of<T>();
  if constexpr (kKind == ValueKind::text) {
    return !noexcept(Text(std::declval<const T&>()));
  } else if constexpr (kKind == ValueKind::enumeration) {
    return has_to_string<T>;
  } else {
    return kKind == ValueKind::duration || kKind == ValueKind::optional || kKind == ValueKind::list ||
           kKind == ValueKind::map || kKind == ValueKind::none;
  }
}

// For the overloads that take a list.
template <class T>
using if_list = std::enable_if_t<kind_of<T>() == ValueKind::list, int>;

// Passes a value on to one of the members of `to`: null(), boolean(bool), integer(std::int64_t),
// natural(std::uint64_t), real(double), text(Text), items<ValueKind>(range) and, if it is none of these, value(const
// Value&).
template <class T, class To>
[[gnu::__always_inline__]] inline void give(const T& value, To&& to) {
  constexpr ValueKind kind = kind_of<T>();
  if constexpr (kind == ValueKind::null) {
    to.null();
  } else if constexpr (kind == ValueKind::boolean) {
    to.boolean(value);
  } else if constexpr (kind == ValueKind::integer && std::is_signed_v<T>) {
    to.integer(value);
  } else if constexpr (kind == ValueKind::integer) {
    to.natural(value);
  } else if constexpr (kind == ValueKind::real) {
    to.real(static_cast<double>(value));
  } else if constexpr (kind == ValueKind::character) {
    to.text(Text(&value, 1));
  } else if constexpr (kind == ValueKind::text) {
    to.text(value);
  } else if constexpr (kind == ValueKind::enumeration && has_to_string<T>) {
    const auto& text = to_string(value);
    to.text(text);
  } else if constexpr (kind == ValueKind::enumeration) {
    if constexpr (std::is_signed_v<std::underlying_type_t<T>>) {
      to.integer(static_cast<std::int64_t>(value));
    } else {
      to.natural(static_cast<std::uint64_t>(value));
    }
  } else if constexpr (kind == ValueKind::duration) {
    to.integer(in_units<1>(value));
  } else if constexpr (kind == ValueKind::optional) {
    if (value.has_value()) {
      give(*value, to);
    } else {
      to.null();
    }
  } else if constexpr (kind == ValueKind::list || kind == ValueKind::map) {
    to.template items<kind>(value);
  } else {
    to.value(value);
  }
}

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_VALUE_TYPES_H
