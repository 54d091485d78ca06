// SPDX-License-Identifier: Apache-2.0
#include "stream/clock_map.h"

#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>

namespace nopspan::collector {
namespace {

std::uint64_t read_clock(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

std::uint64_t distance(std::uint64_t a, std::uint64_t b) {
  const std::uint64_t difference = a - b;
  return std::min(difference, 0 - difference);
}

}  // namespace

std::uint64_t monotonic_now() { return read_clock(CLOCK_MONOTONIC); }
std::uint64_t unix_now() { return read_clock(CLOCK_REALTIME); }

WallClock::WallClock() : WallClock(monotonic_now, unix_now) {
  // This timer never expires. The kernel cancels it whenever the wall clock is set.
  changes_.reset(timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec never{};
  never.it_value.tv_sec = std::numeric_limits<time_t>::max();
  timerfd_settime(changes_.get(), TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &never, nullptr);
}

// The wall clock is read between two readings of the monotonic clock, so its value belongs to a time between them. The
// narrowest of several tries is used, because a try may be interrupted.
ClockSample WallClock::sample() const {
  constexpr int kTries = 4;
  std::uint64_t width = UINT64_MAX;
  ClockSample best;
  std::uint64_t before = monotonic_();
  for (int i = 0; i < kTries; ++i) {
    const std::uint64_t wall_ns = wall_();
    const std::uint64_t after = monotonic_();
    if (after - before < width) {
      width = after - before;
      best = {before, wall_ns - (before + width / 2), (width + 1) / 2};
    }
    before = after;
  }
  return best;
}

void ClockSamples::add(const ClockSample& sample) {
  worst_error_ns_ = std::max(worst_error_ns_, sample.error_ns);
  if (!samples_.empty()) {
    const std::uint64_t change = distance(sample.offset_ns, samples_.back().offset_ns);
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

std::uint64_t ClockSamples::offset_at(std::uint64_t monotonic_ns) const {
  const auto later =
      std::upper_bound(samples_.begin(), samples_.end(), monotonic_ns,
                       [](std::uint64_t time, const Sample& sample) { return time < sample.monotonic_ns; });
  return (later == samples_.begin() ? later : later - 1)->offset_ns;
}

}  // namespace nopspan::collector
