// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include "base/failure.h"
#include "base/utf8.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <utility>
#include <vector>

namespace nopspan::collector {
namespace {

constexpr char kHexDigits[] = "0123456789abcdef";
constexpr std::string_view kEllipsis = "…";

// What a terminal may obey, what turns the order of its neighbours, or breaks the line.
bool is_dangerous(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

std::string three_digits(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.*f", value < 9.995 ? 2 : value < 99.95 ? 1 : 0, value);
  return text;
}

std::string format(const char* pattern, std::uint64_t a, std::uint64_t b) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
  return text;
}

[[noreturn]] void refuse(const std::string& text, const char* wanted) {
  throw Failure("\"" + printable(text, 40) + "\" is not " + wanted, Failure::kMisused);
}

// A number at the beginning of `text`, without sign or exponent; takes it and the blanks behind it away.
bool take_number(std::string_view& text, double& value) {
  const auto end = text.find_first_not_of("0123456789.");
  const std::string_view digits = text.substr(0, end);
  const auto read = std::from_chars(digits.data(), digits.data() + digits.size(), value, std::chars_format::fixed);
  if (read.ec != std::errc() || read.ptr != digits.data() + digits.size()) return false;
  text.remove_prefix(digits.size());
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return true;
}

std::string_view take_unit(std::string_view& text) {
  const std::string_view unit = text.substr(0, text.find_first_of("0123456789. "));
  text.remove_prefix(unit.size());
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return unit;
}

}  // namespace

std::string printable(std::string_view text, std::size_t most) {
  std::string shown;
  std::size_t count = 0;  // of the characters in `shown`
  std::size_t fits = 0;   // bytes of it that leave room for the ellipsis
  while (!text.empty()) {
    const Utf8Character character = first_character(text);
    const bool plain = character.bytes > 0 && !is_dangerous(character.code);
    const std::size_t size = character.bytes > 0 ? character.bytes : 1;
    const std::size_t width = plain ? 1 : 4 * size;
    if (count + width > most) {
      shown.resize(fits);
      return most == 0 ? shown : shown.append(kEllipsis);
    }
    for (std::size_t i = 0; i < size; ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if (plain) {
        shown += text[i];
      } else {
        shown.append("\\x") += kHexDigits[byte >> 4U];
        shown += kHexDigits[byte & 15U];
      }
    }
    count += width;
    if (count < most) fits = shown.size();
    text.remove_prefix(size);
  }
  return shown;
}

std::string duration_text(std::uint64_t ns) {
  if (ns < 1000) return std::to_string(ns) + " ns";
  const auto value = static_cast<double>(ns);
  if (value < 999.5e3) return three_digits(value / 1e3) + " us";
  if (value < 999.5e6) return three_digits(value / 1e6) + " ms";
  if (value < 59.95e9) return three_digits(value / 1e9) + " s";
  constexpr std::uint64_t kSecond = 1'000'000'000;
  const std::uint64_t seconds = ns / kSecond + (ns % kSecond >= kSecond / 2 ? 1 : 0);
  if (seconds < 3600) return format("%llum%02llus", seconds / 60, seconds % 60);
  const std::uint64_t minutes = (seconds + 30) / 60;
  if (minutes / 60 < 24) return format("%lluh%02llum", minutes / 60, minutes % 60);
  const std::uint64_t hours = (minutes + 30) / 60;
  return format("%llud%02lluh", hours / 24, hours % 24);
}

std::string number_text(double value) {
  if (!std::isfinite(value)) return "-";
  if (value < 0) return "-" + number_text(-value);
  if (value < 999.5) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.3g", value);
    return value < 0.0001 ? "0" : text;
  }
  static constexpr std::array<const char*, 6> kUnits = {"k", "M", "G", "T", "P", "E"};
  std::size_t unit = 0;
  for (value /= 1000; value >= 999.5 && unit + 1 < kUnits.size(); value /= 1000) ++unit;
  return three_digits(value) + kUnits[unit];
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1024) return std::to_string(bytes) + " B";
  static constexpr std::array<const char*, 6> kUnits = {" KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes) / 1024;
  for (; value >= 1023.95 && unit + 1 < kUnits.size(); value /= 1024) ++unit;
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", value);
  std::string shown = text;
  if (shown.ends_with(".0")) shown.resize(shown.size() - 2);
  return shown + kUnits[unit];
}

std::string time_text(std::uint64_t unix_ns) {
  const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
  std::tm local = {};
  if (localtime_r(&seconds, &local) == nullptr) return "-";
  char text[64];
  std::snprintf(text, sizeof(text), "%02d:%02d:%02d.%03u", local.tm_hour, local.tm_min, local.tm_sec,
                static_cast<unsigned>(unix_ns / 1'000'000 % 1000));
  return text;
}

std::uint64_t parse_duration(const std::string& text) {
  static constexpr char kWanted[] = "a time such as 250ms, 1.5s, 2m or 1h (without a unit: seconds)";
  static const std::vector<std::pair<std::string_view, double>> kUnits = {
      {"ns", 1}, {"us", 1e3}, {"µs", 1e3},   {"ms", 1e6},   {"s", 1e9},
      {"", 1e9}, {"m", 60e9}, {"min", 60e9}, {"h", 3600e9}, {"d", 86400e9}};
  std::string_view rest = text;
  double sum = 0;
  do {
    double value = 0;
    if (!take_number(rest, value)) refuse(text, kWanted);
    const std::string_view unit = take_unit(rest);
    const auto found =
        std::find_if(kUnits.begin(), kUnits.end(), [&](const auto& known) { return known.first == unit; });
    const bool one_of_several = !rest.empty() || sum > 0;
    if (found == kUnits.end() || (unit.empty() && one_of_several)) refuse(text, kWanted);
    sum += value * found->second;
  } while (!rest.empty());
  if (sum > 9e18) refuse(text, kWanted);
  return static_cast<std::uint64_t>(std::llround(sum));
}

std::uint64_t parse_bytes(const std::string& text) {
  static constexpr char kWanted[] = "a size such as 4096, 64K, 16M or 1GiB";
  static constexpr std::string_view kPrefixes = "KMGT";
  std::string_view rest = text;
  double value = 0;
  if (!take_number(rest, value)) refuse(text, kWanted);
  std::string unit(take_unit(rest));
  if (!rest.empty()) refuse(text, kWanted);
  if (!unit.empty() && unit != "B") {
    const auto prefix = kPrefixes.find(static_cast<char>(unit[0] == 'k' ? 'K' : unit[0]));
    const std::string_view behind = std::string_view(unit).substr(1);
    if (prefix == std::string_view::npos || (!behind.empty() && behind != "B" && behind != "iB")) refuse(text, kWanted);
    value = std::ldexp(value, 10 * (static_cast<int>(prefix) + 1));
  }
  if (value > 9e18) refuse(text, kWanted);
  return static_cast<std::uint64_t>(std::llround(value));
}

std::string hex_text(std::string_view bytes) {
  std::string text;
  text.reserve(2 * bytes.size());
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    text += kHexDigits[byte >> 4U];
    text += kHexDigits[byte & 15U];
  }
  return text;
}

}  // namespace nopspan::collector
