// SPDX-License-Identifier: Apache-2.0
// Times as users write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace nopspan::collector {

// A number with a unit, such as 250ms, 1.5s, 2m or 7 (seconds), in nanoseconds.
std::optional<double> nanoseconds_of(const std::string& text);

struct NamedTime {
  std::uint64_t unix_ns = 0;
  std::uint64_t next_unix_ns = 0;  // of a time of day: the same one of the day after; otherwise 0
};
// A date and a time of day; a time of day, which is the last one before `end`; or how long before `end`. Times of day
// are local ones, unless Z or an offset such as +02:00 follows. Empty for any other text.
std::optional<NamedTime> named_time(const std::string& text, std::uint64_t end_unix_ns);

}  // namespace nopspan::collector
