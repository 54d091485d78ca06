// SPDX-License-Identifier: Apache-2.0
// Converts the CLOCK_MONOTONIC times that processes report to wall-clock time.
#pragma once

#include "base/clocks.h"
#include "base/open_file.h"
#include "stream/messages.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

namespace nopspan::collector {

// The offset between the two clocks changes when the wall clock is set or stepped, slowly while it is slewed, and after
// a suspend, during which CLOCK_MONOTONIC stands still. Each time is therefore converted with the offset that was
// measured at that time.
class ClockSamples {
 public:
  explicit ClockSamples(const ClockSample& first) { add(first); }

  // In order of time.
  void add(const ClockSample& sample);
  // Times before the first sample use the first offset, times after the last sample use the last one.
  [[nodiscard]] std::uint64_t to_unix(std::uint64_t monotonic_ns) const {
    return monotonic_ns +
           (monotonic_ns >= samples_.back().monotonic_ns ? samples_.back().offset_ns : offset_at(monotonic_ns));
  }
  // The latest time that to_unix() converts to this one.
  [[nodiscard]] std::uint64_t to_monotonic(std::uint64_t unix_ns) const;
  // How many samples there have been.
  [[nodiscard]] std::uint64_t count() const { return count_; }
  // Calls each(monotonic_ns, offset_ns) for the last ones, at most `most`, in order of time.
  template <class Each>
  void for_each_of_last(std::uint64_t most, const Each& each) const {
    for (std::size_t i = samples_.size() - std::min<std::uint64_t>(most, samples_.size()); i < samples_.size(); ++i)
      each(samples_[i].monotonic_ns, samples_[i].offset_ns);
  }
  // The largest error of a converted time: half the width of the widest sample, plus changes that are too small to be
  // recorded.
  [[nodiscard]] std::uint64_t error_ns() const { return worst_error_ns_ + kTolerance; }
  // How many times the offset changed by more than 1 ms.
  [[nodiscard]] std::uint64_t steps() const { return steps_; }

 private:
  // ns. A smaller change adds no sample.
  static constexpr std::uint64_t kTolerance = 5'000;
  static constexpr std::size_t kMostSamples = 4096;

  struct Sample {
    std::uint64_t monotonic_ns;  // valid from this time on
    std::uint64_t offset_ns;     // modulo 2^64
  };
  [[nodiscard]] std::uint64_t offset_at(std::uint64_t monotonic_ns) const;

  std::vector<Sample> samples_;  // never empty
  std::uint64_t count_ = 0, steps_ = 0;
  std::uint64_t worst_error_ns_ = 0;
};

// Samples the offset.
class WallClock {
 public:
  // Returns ns. Tests pass clocks of their own.
  using Clock = std::function<std::uint64_t()>;

  WallClock();
  WallClock(Clock monotonic, Clock wall) : monotonic_(std::move(monotonic)), wall_(std::move(wall)) {}

  // Call this about ten times per second, and immediately after a change. Every time is then right within
  // ClockSamples::error_ns(), except between a change and the next sample.
  [[nodiscard]] ClockSample sample() const { return sampled_clock(monotonic_, wall_); }
  // Readable when the wall clock was set or the machine has slept. -1 if the kernel cannot report it.
  [[nodiscard]] int change_fd() const { return changes_.get(); }
  // Whether the wall clock was set since the last call.
  bool has_changed();

 private:
  Clock monotonic_, wall_;
  OpenFile changes_;
};

}  // namespace nopspan::collector
