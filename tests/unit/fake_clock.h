// SPDX-License-Identifier: Apache-2.0
// Lets a test set the clock that the library reads. For programs that link the static library and fake_clock.cpp.
#pragma once

#include <cstdint>

inline constexpr std::int64_t kMillisecond = 1'000'000;  // in nanoseconds

// While an instance exists, CLOCK_MONOTONIC advances only by these functions. Use one instance at a time, on one
// thread.
class FakeClock {
 public:
  FakeClock();
  ~FakeClock();
  FakeClock(const FakeClock&) = delete;
  FakeClock& operator=(const FakeClock&) = delete;

  static void advance(std::uint64_t ns);
  static void go_back(std::uint64_t ns);
  static void advance_at_each_read(std::uint64_t ns);
  // How often CLOCK_MONOTONIC was read since the instance was constructed.
  [[nodiscard]] static std::uint64_t reads();
};
