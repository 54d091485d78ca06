// SPDX-License-Identifier: Apache-2.0
// The clock that the library reads, in a test's hands. Defined in fake_clock.cpp, for programs that link the static
// library.
#pragma once

#include <cstdint>

// While it lives, CLOCK_MONOTONIC stands still but for advance(). One at a time; made and used on one thread.
class FakeClock {
 public:
  FakeClock();
  ~FakeClock();
  FakeClock(const FakeClock&) = delete;
  FakeClock& operator=(const FakeClock&) = delete;

  static void advance(std::uint64_t ns);
  static void go_back(std::uint64_t ns);
  // How often CLOCK_MONOTONIC was read since the clock was made.
  [[nodiscard]] static std::uint64_t reads();
};
