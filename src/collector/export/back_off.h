// SPDX-License-Identifier: Apache-2.0
// The pauses between attempts: each is about twice as long as the one before, and random, so that the exporters of
// many hosts do not return to a receiver at the same moment.
#pragma once

#include <algorithm>
#include <chrono>
#include <random>

namespace nopspan::collector {

struct BackOffOptions {
  std::chrono::nanoseconds first = std::chrono::seconds(1), most = std::chrono::seconds(30);
};

class BackOff {
 public:
  explicit BackOff(BackOffOptions options, std::uint64_t seed = std::random_device()())
      : options_(options), interval_(options.first), random_(seed) {}

  // The pause before the next attempt: between half of the interval and one and a half times the interval.
  std::chrono::nanoseconds next() {
    const double factor = std::uniform_real_distribution<double>(0.5, 1.5)(random_);
    const auto pause = std::chrono::duration_cast<std::chrono::nanoseconds>(interval_ * factor);
    interval_ = std::min(2 * interval_, options_.most);
    return pause;
  }
  void reset() { interval_ = options_.first; }

 private:
  BackOffOptions options_;
  std::chrono::nanoseconds interval_;
  std::mt19937_64 random_;
};

}  // namespace nopspan::collector
