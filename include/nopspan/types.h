// SPDX-License-Identifier: Apache-2.0
/// @file
/// The types of arguments and results: texts, names, times, durations, error codes and levels of log messages. With
/// them, the other headers do not need `<string>` and `<chrono>`.
///
/// @code
/// std::string table = "db.orders";
/// nopspan::Name orders{table};             // refers to the string until a span of this name has begun
/// nopspan::FixedString<63> id{"order-7"};  // no allocation
/// nopspan::Time now = nopspan::now_ns();   // or std::chrono::steady_clock::now()
/// nopspan::Duration wait = 1'500;          // ns; or std::chrono::microseconds(1) + std::chrono::nanoseconds(500)
/// puts(nopspan::describe(nopspan::Errc::not_found));
/// @endcode
///
/// Thread safety: all types are plain values. The functions may be called from any thread at any time, and now_ns()
/// also in signal handlers.
#ifndef NOPSPAN_TYPES_H
#define NOPSPAN_TYPES_H

#include <nopspan/detail/config.h>
#include <nopspan/detail/guarded.h>

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>
#include <utility>
#if NOPSPAN_SHELL
#include <chrono>
#endif
NOPSPAN_SHELL_HEADER

namespace NOPSPAN_NAMESPACE {

/// A string argument. Everything that converts to std::string_view converts to Text, and so does a null pointer, which
/// means "no string". The callee copies what it keeps, so the characters need not outlive the call.
class Text {
 public:
  /// No string.
  constexpr Text() noexcept = default;
  /// No string.
  constexpr Text(std::nullptr_t) noexcept {}  // NOLINT(*-explicit-*)
  /// A string that ends with a NUL; null means no string.
  constexpr Text(const char* text) noexcept  // NOLINT(*-explicit-*)
      : data_(text), size_(text == nullptr ? 0 : std::char_traits<char>::length(text)) {}
  /// `size` bytes; null means no string.
  constexpr Text(const char* text, std::size_t size) noexcept : data_(text), size_(text == nullptr ? 0 : size) {}
  /// A std::string or another class that converts to std::string_view.
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, std::string_view> &&
                                          !std::is_convertible_v<const S&, const char*>,
                                      int> = 0>
  constexpr Text(const S& text) noexcept(noexcept(std::string_view(text)))  // NOLINT(*-explicit-*)
      : Text(std::string_view(text)) {}
  /// A view. If its pointer is null, there is no string.
  constexpr Text(std::string_view text) noexcept : data_(text.data()), size_(text.size()) {}  // NOLINT(*-explicit-*)

  /// Whether there is no string.
  [[nodiscard]] constexpr bool is_null() const noexcept { return data_ == nullptr; }
  /// Whether there is no string, or an empty one.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The characters, which need not end with a NUL; null if there is no string.
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length in bytes.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// The string; empty if there is none.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

 private:
  const char* data_ = nullptr;
  std::size_t size_ = 0;
};

/// A string of at most N bytes that allocates nothing. Functions return it where `<string>` would be too heavy a
/// header. It converts to std::string_view and std::string.
template <std::size_t N>
class FixedString {
 public:
  /// An empty string.
  constexpr FixedString() noexcept = default;
  /// Copies `text`, or its first N bytes if it is longer.
  constexpr explicit FixedString(std::string_view text) noexcept : size_(text.size() < N ? text.size() : N) {
    for (std::size_t i = 0; i < size_; ++i) data_[i] = text[i];
  }

  /// The characters, which end with a NUL.
  [[nodiscard]] constexpr const char* c_str() const noexcept { return data_; }
  /// The characters, which end with a NUL.
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length in bytes, without the NUL.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// Whether the length is 0.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The string, valid as long as this object.
  [[nodiscard]] constexpr std::string_view view() const noexcept { return {data_, size_}; }

  /// The string, valid as long as this object.
  constexpr operator std::string_view() const noexcept { return view(); }  // NOLINT(*-explicit-*)
  /// A copy, as std::string or another class that is made of a pointer and a length.
  template <class S, std::enable_if_t<std::is_same_v<typename S::value_type, char> &&
                                          std::is_constructible_v<S, const char*, std::size_t> &&
                                          !std::is_same_v<S, std::string_view>,
                                      int> = 0>
  operator S() const {  // NOLINT(*-explicit-*)
    return S(data_, size_);
  }

  /// @{
  /// Compares the characters.
  friend constexpr bool operator==(const FixedString& a, std::string_view b) noexcept { return a.view() == b; }
  friend constexpr bool operator!=(const FixedString& a, std::string_view b) noexcept { return a.view() != b; }
  friend constexpr bool operator==(std::string_view a, const FixedString& b) noexcept { return a == b.view(); }
  friend constexpr bool operator!=(std::string_view a, const FixedString& b) noexcept { return a != b.view(); }
  friend constexpr bool operator==(const FixedString& a, const FixedString& b) noexcept { return a.view() == b.view(); }
  friend constexpr bool operator!=(const FixedString& a, const FixedString& b) noexcept { return a.view() != b.view(); }
  /// @}

 private:
  std::size_t size_ = 0;
  char data_[N + 1] = {};
};

/// The time now, CLOCK_MONOTONIC in ns. It is the clock of std::chrono::steady_clock.
NOPSPAN_API std::uint64_t now_ns() noexcept
    NOPSPAN_IN_SHELL(return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                                       std::chrono::nanoseconds(1)));

namespace detail {

template <class T>
inline constexpr bool is_count = std::is_integral_v<T> && !std::is_same_v<T, bool> && !std::is_same_v<T, char>;

// Whether T is a std::chrono::duration, or looks like one.
template <class T, class = void>
inline constexpr bool is_duration = false;
template <class T>
inline constexpr bool is_duration<T, std::void_t<typename T::rep, decltype(T::period::num), decltype(T::period::den),
                                                 decltype(std::declval<const T&>().count())>> = true;

// Whether T is a std::chrono::time_point, or looks like one.
template <class T, class = void>
inline constexpr bool is_time_point = false;
template <class T>
inline constexpr bool is_time_point<
    T, std::void_t<decltype(T::clock::is_steady), decltype(std::declval<const T&>().time_since_epoch())>> = true;

constexpr std::int64_t clamped(double value) noexcept {
  if (value >= 0x1p63) return INT64_MAX;
  if (value < -0x1p63) return INT64_MIN;
  return value == value ? static_cast<std::int64_t>(value) : 0;  // NaN is 0
}
#if defined(__SIZEOF_INT128__)
__extension__ using Int128 = __int128;
#endif
template <class T>
constexpr std::int64_t clamped_integer(T value) noexcept(!std::is_class_v<T>) {
  if constexpr (sizeof(T) > 8 || (std::is_unsigned_v<T> && sizeof(T) == 8)) {
    if (value > static_cast<T>(INT64_MAX)) return INT64_MAX;
  }
  if constexpr (sizeof(T) > 8 && static_cast<T>(-1) < 0) {
    if (value < static_cast<T>(INT64_MIN)) return INT64_MIN;
  }
  return static_cast<std::int64_t>(value);
}

// A duration in units of `unit` ns, rounded towards 0, and clamped to what 64 bits hold.
template <std::int64_t unit, class D>
constexpr std::int64_t in_units(const D& duration) {
  constexpr std::int64_t kPerSecond = 1'000'000'000 / unit;
  constexpr std::int64_t kCommon = D::period::den % kPerSecond == 0 ? kPerSecond : 1;  // to divide in 64 bits
#if defined(__SIZEOF_INT128__)
  constexpr Int128 num = Int128(D::period::num) * (kPerSecond / kCommon);
#else
  constexpr std::int64_t num = D::period::num * (kPerSecond / kCommon);
#endif
  constexpr std::int64_t den = D::period::den / kCommon;
  if constexpr (std::is_floating_point_v<typename D::rep>) {
    return clamped(static_cast<double>(duration.count()) * static_cast<double>(num) / static_cast<double>(den));
  } else {
    const std::int64_t count = clamped_integer(duration.count());
    if constexpr (num == 1) return count / den;
#if defined(__SIZEOF_INT128__)
    Int128 scaled = 0;
    if (__builtin_mul_overflow(Int128(count), num, &scaled)) return count < 0 ? INT64_MIN : INT64_MAX;
    return clamped_integer(scaled / den);
#else  // a 32-bit machine: the quotient and the remainder of the count by themselves
    std::int64_t whole = 0;
    std::int64_t rest = 0;
    std::int64_t sum = 0;
    if (__builtin_mul_overflow(count / den, num, &whole) || __builtin_mul_overflow(count % den, num, &rest) ||
        __builtin_add_overflow(whole, rest / den, &sum)) {
      return count < 0 ? INT64_MIN : INT64_MAX;
    }
    return sum;
#endif
  }
}

}  // namespace detail

/// A point in time, as an argument: CLOCK_MONOTONIC in ns, or a std::chrono::steady_clock::time_point. A time of a
/// clock that is not steady, such as std::chrono::system_clock, does not compile. Do not pass a time of another steady
/// clock.
class Time {
 public:
  /// No time: 0 ns.
  constexpr Time() noexcept = default;
  /// CLOCK_MONOTONIC in ns; see now_ns().
  template <class T, std::enable_if_t<detail::is_count<T>, int> = 0>
  constexpr Time(T ns) noexcept : ns_(static_cast<std::uint64_t>(ns)) {}  // NOLINT(*-explicit-*)
  /// A std::chrono::steady_clock::time_point.
  template <class T, std::enable_if_t<detail::is_time_point<T>, int> = 0>
  constexpr Time(const T& point) noexcept  // NOLINT(*-explicit-*)
      : ns_(static_cast<std::uint64_t>(detail::in_units<1>(point.time_since_epoch()))) {
    static_assert(T::clock::is_steady, "a nopspan::Time is of std::chrono::steady_clock, or CLOCK_MONOTONIC in ns");
  }

  /// The time in ns.
  [[nodiscard]] constexpr std::uint64_t ns() const noexcept { return ns_; }

 private:
  std::uint64_t ns_ = 0;
};

/// A duration as an argument: an integer counts units of `unit` ns, and a std::chrono duration is converted to them. It
/// is rounded towards 0. What 64 bits do not hold becomes the nearest value that they hold.
template <std::int64_t unit>
class DurationIn {
 public:
  /// A duration of 0.
  constexpr DurationIn() noexcept = default;
  /// A number of units.
  template <class T, std::enable_if_t<detail::is_count<T>, int> = 0>
  constexpr DurationIn(T count) noexcept : count_(detail::clamped_integer(count)) {}  // NOLINT(*-explicit-*)
  /// A std::chrono duration.
  template <class D, std::enable_if_t<detail::is_duration<D>, int> = 0>
  constexpr DurationIn(const D& duration) noexcept
      : count_(detail::in_units<unit>(duration)) {}  // NOLINT(*-explicit-*)

  /// The number of units.
  [[nodiscard]] constexpr std::int64_t count() const noexcept { return count_; }

 private:
  std::int64_t count_ = 0;
};

using Duration = DurationIn<1>;              ///< in ns
using Milliseconds = DurationIn<1'000'000>;  ///< in ms

/// The longest name, request id or label, in bytes, that is reported unchanged. It is the most that str() of bpftrace
/// shows. Longer text is truncated to 60 bytes and "…", and counted (stats().truncated).
inline constexpr std::size_t kMaxNameBytes = 63;

namespace detail {
struct NameAccess;
}

/// The name of a span or event, as an argument. A Name refers to the text and copies no characters. A span or event
/// that is recorded copies its name when it begins, so the text may change or disappear afterwards. While no tracer or
/// handler is attached, the text is not read.
///
/// Names that are made at run time are kept in a table that holds 4096 names. A new name beyond that becomes
/// "nopspan.overflow", and is counted (stats().names_overflow). The limit protects tracers, whose tables are keyed by
/// name. The type decides what is made at run time: everything except a const char array, such as a string literal.
///
/// A name that is empty, is longer than 63 bytes, is not UTF-8 or has control characters is repaired before it is
/// emitted, and counted (stats().names_invalid). "?" replaces each invalid byte. An empty name or a null pointer
/// becomes "unnamed", and so does an object whose conversion to Text throws (counted as stats().metadata_failures). The
/// text of a char array ends at its first NUL.
class Name {
 public:
  /// From a string literal or another const char array. The table of names is not used.
  template <std::size_t N>
  constexpr Name(const char (&literal)[N]) noexcept  // NOLINT(*-explicit-*)
      : data_(literal), size_(N) {}
  /// From a buffer, which need not be full.
  template <std::size_t N>
  constexpr Name(char (&buffer)[N]) noexcept  // NOLINT(*-explicit-*)
      : data_(buffer), size_(N), origin_(Origin::buffer) {}
  /// From const char*, std::string, std::string_view and everything else that converts to Text.
  template <class S, std::enable_if_t<std::is_convertible_v<const S&, Text> && !std::is_array_v<S>, int> = 0>
  constexpr Name(const S& text) noexcept : origin_(Origin::text) {  // NOLINT(*-explicit-*)
    if constexpr (!noexcept(Text(text))) {
      detail::guarded([&] { refer_to(Text(text)); });
    } else if constexpr (std::is_convertible_v<const S&, const char*>) {
      data_ = text;  // its length is found when the name is used
      origin_ = Origin::pointer;
    } else {
      refer_to(Text(text));
    }
  }

  Name(std::nullptr_t) = delete;  ///< not a name

  /// Keeps a copy of a name until the program ends, in the table of names that are made at run time. The same text
  /// gives the same pointer. A program that uses such a name often calls this once, and saves the search of the table.
  /// Null text gives "unnamed".
  NOPSPAN_API static Name intern(Text name) noexcept NOPSPAN_IN_SHELL(return "unnamed");

  /// The name as it was given.
  [[nodiscard]] constexpr std::string_view view() const noexcept {
    if (data_ == nullptr) return {};
    if (origin_ == Origin::text) return {data_, size_};
    if (origin_ == Origin::pointer) return {data_};
    const char* end = std::char_traits<char>::find(data_, size_, '\0');
    return {data_, end != nullptr ? static_cast<std::size_t>(end - data_) : size_};
  }
  /// The first character of view().
  [[nodiscard]] constexpr const char* data() const noexcept { return data_; }
  /// The length of view() in bytes.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return view().size(); }

 private:
  friend struct detail::NameAccess;

  enum class Origin : std::uint32_t {
    constant,  // size_ bytes, or up to the first NUL; not made at run time
    buffer,    // the same, made at run time
    text,      // size_ bytes
    pointer    // up to the first NUL; size_ is not used
  };
  constexpr Name(const char* data, std::size_t size) noexcept : data_(data), size_(static_cast<std::uint32_t>(size)) {}
  constexpr void refer_to(Text text) noexcept {
    data_ = text.data();
    size_ = static_cast<std::uint32_t>(text.size() < UINT32_MAX ? text.size() : UINT32_MAX);
  }

  const char* data_ = nullptr;
  std::uint32_t size_ = 0;
  Origin origin_ = Origin::constant;
};
static_assert(sizeof(Name) == sizeof(void*) + 8, "passed in two registers");

/// A list in static storage.
template <class T>
class StaticList {
 public:
  using value_type = T;  ///< one item

  /// An empty list.
  constexpr StaticList() noexcept = default;
  /// A list of `size` items in static storage.
  constexpr StaticList(const T* items, std::size_t size) noexcept : items_(items), size_(size) {}
  /// A list of the items of an array in static storage.
  template <std::size_t N>
  constexpr StaticList(const T (&items)[N]) noexcept : items_(items), size_(N) {}  // NOLINT(*-explicit-*)

  /// The first item.
  [[nodiscard]] constexpr const T* begin() const noexcept { return items_; }
  /// The position after the last item.
  [[nodiscard]] constexpr const T* end() const noexcept { return items_ + size_; }
  /// The number of items.
  [[nodiscard]] constexpr std::size_t size() const noexcept { return size_; }
  /// Whether there are none.
  [[nodiscard]] constexpr bool empty() const noexcept { return size_ == 0; }
  /// The item at position `i`, which must be less than size().
  constexpr const T& operator[](std::size_t i) const noexcept { return items_[i]; }

  /// Copies the items into a container.
  template <class C, std::enable_if_t<std::is_constructible_v<typename C::value_type, T> &&
                                          std::is_constructible_v<C, const T*, const T*>,
                                      int> = 0>
  operator C() const {  // NOLINT(*-explicit-*)
    return C(begin(), end());
  }

 private:
  const T* items_ = nullptr;
  std::size_t size_ = 0;
};

/// The names of a catalogue's events (llm::event_names()). The list converts to a container of strings, such as
/// std::vector<std::string>, which is what attach_many() takes.
using EventNames = StaticList<std::string_view>;

/// The result of a call. The compiler warns if it is ignored.
enum class [[nodiscard]] Errc : std::uint8_t{
    ok = 0,            ///< the call succeeded
    already_exists,    ///< a handler with this id is attached, to these or other events
    not_found,         ///< no handler with this id is attached
    invalid_argument,  ///< a null or empty id; an empty handler; a name that no event has: null, empty, over 63 bytes
                       ///< without .start, .stop, .exception or .iteration_start, not UTF-8, or with an empty segment,
                       ///< a control character or a "*" that is not the last segment; for a catalogue's functions, a
                       ///< name that the catalogue does not have, or a Value of the wrong type
    out_of_memory,     ///< there was no memory, or 65,536 detached handlers wait until running handlers have returned
                       ///< (see detach()); nothing was changed
};

/// The meaning of a code, for a message ("no handler with this id is attached"). The text is in static storage. It is
/// never null.
NOPSPAN_API const char* describe(Errc error) noexcept NOPSPAN_IN_SHELL(return error == Errc::ok ? "ok" : "an error");

/// The levels, from the least to the most severe.
enum class LogLevel : std::uint8_t { debug, info, warning, error };
/// "debug", "info", "warning" or "error": static storage, never null.
NOPSPAN_API const char* to_string(LogLevel level) noexcept
    NOPSPAN_IN_SHELL(return level == LogLevel::debug     ? "debug"
                            : level == LogLevel::info    ? "info"
                            : level == LogLevel::warning ? "warning"
                                                         : "error");

}  // namespace NOPSPAN_NAMESPACE

#endif  // NOPSPAN_TYPES_H
