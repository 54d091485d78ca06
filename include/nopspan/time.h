// SPDX-License-Identifier: Apache-2.0
/// @file
/// Times and durations as functions of nopspan take them, without the cost of including `<chrono>`: a number of ns, or
/// what std::chrono has for it.
///
/// @code
/// nopspan::Time now = nopspan::now_ns();      // or std::chrono::steady_clock::now()
/// nopspan::Duration wait = 1'500;             // ns; or std::chrono::microseconds(1) + std::chrono::nanoseconds(500)
/// printf("%llu %lld\n", (unsigned long long)now.ns(), (long long)wait.count());
/// @endcode
///
/// Thread safety: all types are plain values. now_ns() may be called from any thread at any time, and in signal
/// handlers.
#ifndef NOPSPAN_TIME_H
#define NOPSPAN_TIME_H

#include <nopspan/detail/config.h>

#include <cstdint>
#include <type_traits>
#include <utility>

namespace nopspan {

/// The time now, CLOCK_MONOTONIC in ns. It is the clock of std::chrono::steady_clock.
NOPSPAN_API std::uint64_t now_ns() noexcept;

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
__extension__ using Int128 = __int128;
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
  constexpr Int128 num = Int128(D::period::num) * (kPerSecond / kCommon);
  constexpr std::int64_t den = D::period::den / kCommon;
  if constexpr (std::is_floating_point_v<typename D::rep>) {
    return clamped(static_cast<double>(duration.count()) * static_cast<double>(num) / static_cast<double>(den));
  } else {
    const std::int64_t count = clamped_integer(duration.count());
    if constexpr (num == 1) return count / den;
    Int128 scaled = 0;
    if (__builtin_mul_overflow(Int128(count), num, &scaled)) return count < 0 ? INT64_MIN : INT64_MAX;
    return clamped_integer(scaled / den);
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

}  // namespace nopspan

#endif  // NOPSPAN_TIME_H
