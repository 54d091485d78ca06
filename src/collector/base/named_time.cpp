// SPDX-License-Identifier: Apache-2.0
#include "base/named_time.h"

#include "base/clocks.h"
#include "base/saturating.h"
#include "base/text.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <ctime>
#include <string_view>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

// strptime() accepts February 30.
bool is_day(const std::tm& time) {
  constexpr int kFirstYear = 1900;
  return std::chrono::year_month_day(std::chrono::year(time.tm_year + kFirstYear),
                                     std::chrono::month(static_cast<unsigned>(time.tm_mon) + 1),
                                     std::chrono::day(static_cast<unsigned>(time.tm_mday)))
      .ok();
}

}  // namespace

// CLI::AsNumberWithUnit would round the number to six digits.
std::optional<double> nanoseconds_of(const std::string& text) {
  static constexpr std::pair<std::string_view, double> kUnits[] = {
      {"ns", 1}, {"us", 1e3}, {"µs", 1e3},   {"ms", 1e6},   {"s", 1e9},
      {"", 1e9}, {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
  double number = 0;
  const auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  if (read.ec != std::errc() || !std::isfinite(number)) return std::nullopt;
  for (const auto& [unit, ns] : kUnits) {
    if (trimmed(read.ptr) == unit) return number * ns;
  }
  return std::nullopt;
}

std::optional<NamedTime> named_time(const std::string& text, std::uint64_t end_unix_ns) {
  const auto end = static_cast<std::time_t>(end_unix_ns / kSecond);
  for (const char* const format : {"%Y-%m-%dT%T", "%Y-%m-%d %T", "%Y-%m-%dT%R", "%Y-%m-%d %R", "%T", "%R"}) {
    const bool has_date = format[1] == 'Y';
    std::tm time = {};
    const char* rest = strptime(text.c_str(), format, &time);
    if (rest == nullptr) continue;
    double fraction = 0;
    if (*rest == '.') rest = std::from_chars(rest, text.c_str() + text.size(), fraction).ptr;
    const bool has_zone = *rest != '\0';
    if (has_zone) rest = strptime(rest, "%z", &time);
    if (rest == nullptr || *rest != '\0' || fraction >= 1) continue;
    const std::time_t offset = has_zone ? time.tm_gmtoff : 0, day_of = end + offset;
    std::tm day = {};
    if ((has_zone ? gmtime_r(&day_of, &day) : localtime_r(&end, &day)) == nullptr) return std::nullopt;
    if (!has_date) std::tie(time.tm_year, time.tm_mon, time.tm_mday) = std::tie(day.tm_year, day.tm_mon, day.tm_mday);
    if (!is_day(time)) return std::nullopt;
    const auto seconds_of = [&](std::tm when) {
      when.tm_isdst = -1;
      return has_zone ? timegm(&when) - offset : std::mktime(&when);
    };
    if (!has_date && seconds_of(time) > end) --time.tm_mday;  // days have 23 or 25 hours where the clocks are changed
    if (seconds_of(time) < 0) return std::nullopt;
    const auto unix_ns_of = [&](const std::tm& when) {
      std::uint64_t ns = 0;
      if (__builtin_mul_overflow(static_cast<std::uint64_t>(seconds_of(when)), kSecond, &ns)) ns = UINT64_MAX;
      return saturating_sum(ns, static_cast<std::uint64_t>(fraction * static_cast<double>(kSecond)));
    };
    std::tm next = time;
    ++next.tm_mday;
    return NamedTime{unix_ns_of(time), has_date ? 0 : unix_ns_of(next)};
  }
  const std::optional<double> before = nanoseconds_of(text);
  const bool has_unit = text.find_first_not_of("0123456789.") != std::string::npos;
  if (!before || !has_unit || *before < 0 || *before > static_cast<double>(end_unix_ns)) return std::nullopt;
  return NamedTime{end_unix_ns - static_cast<std::uint64_t>(*before)};
}

}  // namespace nopspan::collector
