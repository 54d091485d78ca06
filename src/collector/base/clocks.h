// SPDX-License-Identifier: Apache-2.0
// The clocks of the system in ns, and the wall clock against CLOCK_MONOTONIC. It needs C++17 only, because the library
// nopspan::recording uses it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>

namespace nopspan::collector {

// All times are in nanoseconds.
inline constexpr std::uint64_t kSecond = 1'000'000'000;

// The wall clock minus CLOCK_MONOTONIC, modulo 2^64, as measured at a time.
struct ClockSample {
  std::uint64_t monotonic_ns = 0, offset_ns = 0, error_ns = 0;
};

inline std::uint64_t read_clock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec);
}
inline std::uint64_t monotonic_now() { return read_clock(CLOCK_MONOTONIC); }
inline std::uint64_t unix_now() { return read_clock(CLOCK_REALTIME); }

// How far two offsets are from each other.
inline std::uint64_t clock_change(std::uint64_t one_ns, std::uint64_t other_ns) {
  return std::min(one_ns - other_ns, other_ns - one_ns);
}

// The wall clock is read between two readings of the monotonic clock, so its value belongs to a time between them. The
// narrowest of several tries is used, because a try may be interrupted.
template <class Clock>
ClockSample sampled_clock(const Clock& monotonic, const Clock& wall) {
  constexpr int kTries = 4;
  std::uint64_t width = UINT64_MAX;
  ClockSample best;
  std::uint64_t before = monotonic();
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t wall_ns = wall();
    const std::uint64_t after = monotonic();
    if (after - before < width) {
      width = after - before;
      best = {before, wall_ns - (before + width / 2), (width + 1) / 2};
    }
    before = after;
  }
  return best;
}

}  // namespace nopspan::collector
