// SPDX-License-Identifier: Apache-2.0
#include "base/text.h"

#include "base/clocks.h"
#include "base/utf8.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <iterator>

namespace nopspan::collector {
namespace {

constexpr char kHexDigits[] = "0123456789abcdef";
constexpr std::string_view kEllipsis = "…";

// Characters that a terminal may interpret, that change the direction of text, or that break the line.
bool is_dangerous(char32_t code) {
  return code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == 0x61c || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069) || code == 0xfeff;
}

std::string three_digits(double value) {
  char text[32];
  const int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  return {text, std::to_chars(text, std::end(text), value, std::chars_format::fixed, decimals).ptr};
}

std::string format(const char* pattern, std::uint64_t a, std::uint64_t b) {
  char text[64];
  std::snprintf(text, sizeof(text), pattern, static_cast<unsigned long long>(a), static_cast<unsigned long long>(b));
  return text;
}

}  // namespace

std::string printable(std::string_view text, std::size_t most) {
  if (text.size() <= most && is_printable_ascii(text)) return std::string(text);
  std::string shown;
  std::size_t count = 0;  // characters in `shown`
  std::size_t fits = 0;   // bytes of `shown` that leave room for the ellipsis
  while (!text.empty()) {
    const Utf8Character character = first_character(text);
    const bool plain = character.bytes > 0 && !is_dangerous(character.code);
    const std::size_t size = character.bytes > 0 ? character.bytes : 1;
    const std::size_t width = plain ? 1 : 4 * size;
    if (count + width > most) {
      shown.resize(fits);
      return most == 0 ? shown : shown.append(kEllipsis);
    }
    if (plain) shown += text.substr(0, size);
    for (std::size_t i = 0; i < size && !plain; ++i) shown += "\\x" + hex_text(text.substr(i, 1));
    count += width;
    if (count < most) fits = shown.size();
    text.remove_prefix(size);
  }
  return shown;
}

std::string duration_text(std::uint64_t ns) {
  if (ns < 1000) return std::to_string(ns) + " ns";
  if (ns < 999'500) return three_digits(ns / 1e3) + " us";
  if (ns < 999'500'000) return three_digits(ns / 1e6) + " ms";
  if (ns < 59'950'000'000) return three_digits(ns / 1e9) + " s";
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
  // localtime_r() takes a lock, and most calls are for the same second as the last one.
  struct Second {
    std::time_t seconds = -1;
    long zone = 0;  // changes with TZ
    std::string text;
  };
  thread_local Second last;
  const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
  if (last.seconds != seconds || last.zone != ::timezone) {
    std::tm local = {};
    char text[64] = "-";
    if (localtime_r(&seconds, &local) != nullptr) {
      std::snprintf(text, sizeof(text), "%02d:%02d:%02d", local.tm_hour, local.tm_min, local.tm_sec);
    }
    last = {seconds, ::timezone, text};
  }
  if (last.text == "-") return last.text;
  const auto digit = [milliseconds = unix_ns / 1'000'000 % 1000](std::uint64_t place) {
    return static_cast<char>('0' + milliseconds / place % 10);
  };
  const char fraction[] = {'.', digit(100), digit(10), digit(1)};
  return last.text + std::string(fraction, sizeof(fraction));
}

std::string date_text(std::uint64_t unix_ns) {
  const auto seconds = static_cast<std::time_t>(unix_ns / 1'000'000'000);
  std::tm local = {};
  char date[64] = "";
  if (localtime_r(&seconds, &local) != nullptr) std::strftime(date, sizeof(date), "%Y-%m-%d ", &local);
  return date + time_text(unix_ns);
}

std::string remark_text(const std::string& remark) {
  return remark.empty() ? "" : "nopspan: " + printable(remark, SIZE_MAX) + "\n";
}

std::string base64_of(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 3))) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8U | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) text += i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63U] : '=';
  }
  return text;
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

std::string counted(std::uint64_t count, const std::string& one, const std::string& many) {
  return std::to_string(count) + " " + (count == 1 ? one : many.empty() ? one + "s" : many);
}

std::string padded_left(const std::string& text, std::size_t width) {
  return text.size() < width ? std::string(width - text.size(), ' ') + text : text;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t";
  const std::size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

std::string_view take_before(std::string_view& rest, char separator) {
  const std::size_t end = std::min(rest.find(separator), rest.size());
  const std::string_view part = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return part;
}

std::string upper_case(std::string text) {
  for (char& c : text) c = upper_case(c);
  return text;
}

bool is_same_word(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower_case(x) == lower_case(y); });
}

}  // namespace nopspan::collector
