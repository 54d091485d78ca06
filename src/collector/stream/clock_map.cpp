// SPDX-License-Identifier: Apache-2.0
#include "stream/clock_map.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <limits>

namespace nopspan::collector {

WallClock::WallClock() : WallClock(monotonic_now, unix_now) {
  // This timer never expires. The kernel cancels it whenever the wall clock is set.
  changes_.reset(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec never{};
  never.it_value.tv_sec = std::numeric_limits<time_t>::max();
  timerfd_settime(changes_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr);
}

void ClockSamples::add(const ClockSample& sample) {
  worst_error_ns_ = std::max(worst_error_ns_, sample.error_ns);
  if (!samples_.empty()) {
    const std::uint64_t change = clock_change(sample.offset_ns, samples_.back().offset_ns);
    if (change <= std::max(kTolerance, sample.error_ns)) return;
    if (change > 1'000'000) ++steps_;
  }
  // Removes the older half in one step. A slewed clock adds a sample every few seconds at most, so that half is hours
  // old.
  if (samples_.size() >= kMostSamples) samples_.erase(samples_.begin(), samples_.begin() + kMostSamples / 2);
  samples_.push_back({sample.monotonic_ns, sample.offset_ns});
  ++count_;
}

bool WallClock::has_changed() {
  std::uint64_t times = 0;
  return changes_ && read(changes_.get(), &times, sizeof(times)) < 0 && errno == ECANCELED;
}

std::uint64_t ClockSamples::to_monotonic(std::uint64_t unix_ns) const {
  const auto valid = std::find_if(samples_.rbegin(), samples_.rend(), [&](const Sample& sample) {
    return sample.monotonic_ns + sample.offset_ns <= unix_ns;
  });
  const std::uint64_t offset_ns = (valid != samples_.rend() ? *valid : samples_.front()).offset_ns;
  return unix_ns > offset_ns ? unix_ns - offset_ns : 0;
}

std::uint64_t ClockSamples::offset_at(std::uint64_t monotonic_ns) const {
  const auto later =
      std::upper_bound(samples_.begin(), samples_.end(), monotonic_ns,
                       [](std::uint64_t time, const Sample& sample) { return time < sample.monotonic_ns; });
  return (later == samples_.begin() ? later : later - 1)->offset_ns;
}

}  // namespace nopspan::collector
