// SPDX-License-Identifier: Apache-2.0
// Wall-clock time of what processes time by CLOCK_MONOTONIC.
#pragma once

#include "base/open_file.h"

#include <cstdint>
#include <functional>
#include <vector>

namespace nopspan::collector {

// Samples how far the clocks are apart. That changes when the time is set or stepped, slowly when it is slewed, and by
// a suspend, in which CLOCK_MONOTONIC stands still: so every time is mapped by what was measured when it was.
class ClockMap {
 public:
  // In ns. In tests others than the kernel's.
  using Clock = std::function<std::uint64_t()>;

  ClockMap();
  ClockMap(Clock monotonic, Clock wall);

  // Some ten times a second, and at once after a change; then every time is right within error_ns(), but those between
  // a change and the sample after it.
  void sample();
  // Readable when the wall clock was set, or the machine has slept. -1: that is not told.
  [[nodiscard]] int change_fd() const { return changes_.get(); }
  // Whether it was since the last call.
  bool has_changed();
  // Before the first sample as of the first, after the last one as of the last.
  [[nodiscard]] std::uint64_t to_unix(std::uint64_t monotonic_ns) const {
    return monotonic_ns +
           (monotonic_ns >= samples_.back().monotonic_ns ? samples_.back().offset_ns : offset_at(monotonic_ns));
  }
  // How far the mapping of a time may be off: the width of the widest sample, and what is not noted as a change.
  [[nodiscard]] std::uint64_t error_ns() const { return worst_error_ns_ + kTolerance; }
  [[nodiscard]] std::uint64_t monotonic_now() const { return monotonic_(); }
  // How often the clocks were seen to move against each other by more than a millisecond.
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  // A smaller change is not noted.
  static constexpr std::uint64_t kTolerance = 5'000;
  static constexpr std::size_t kMostSamples = 4096;

  struct Sample {
    std::uint64_t monotonic_ns;  // from here on
    std::uint64_t offset_ns;     // modulo 2^64
  };
  [[nodiscard]] std::uint64_t offset_at(std::uint64_t monotonic_ns) const;

  Clock monotonic_, wall_;
  OpenFile changes_;
  std::vector<Sample> samples_;  // never empty
  std::uint64_t worst_error_ns_ = 0;
  std::uint64_t steps_ = 0;
};

}  // namespace nopspan::collector
