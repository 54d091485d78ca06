// SPDX-License-Identifier: Apache-2.0
// When a command stops: at a signal, when it has what it was asked for, or after its --duration.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>

namespace nopspan::collector {

// Set by SIGINT and SIGTERM, and by a command that has what it was asked for.
inline std::atomic<bool> stopping = false;

// When a loop is to end: with its --duration, and whenever the program is to stop.
class Deadline {
 public:
  // No duration (0) is without an end. `stop` outlives this.
  explicit Deadline(std::uint64_t duration_ns = 0, const std::atomic<bool>& stop = stopping)
      : stop_(stop), duration_(duration_ns) {}

  // From here on the duration counts. Once.
  void begin() {
    if (began_ == Clock::time_point()) began_ = Clock::now();
  }
  [[nodiscard]] bool is_over() const { return stop_ || (has_end() && Clock::now() >= began_ + duration_); }
  // How long poll(2) may wait, not beyond the end.
  [[nodiscard]] int milliseconds(int most) const {
    if (!has_end()) return most;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(began_ + duration_ - Clock::now()).count();
    return static_cast<int>(std::clamp<std::int64_t>(left, 0, most));
  }

 private:
  using Clock = std::chrono::steady_clock;
  [[nodiscard]] bool has_end() const { return duration_.count() > 0 && began_ != Clock::time_point(); }

  const std::atomic<bool>& stop_;
  std::chrono::nanoseconds duration_;
  Clock::time_point began_;
};

}  // namespace nopspan::collector
