// SPDX-License-Identifier: Apache-2.0
#include "fault_plan.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace example {
Fault FaultPlan::next() {
  const std::lock_guard<std::mutex> lock(mutex_);
  std::seed_seq seed{options_.seed >> 32, options_.seed & 0xFFFFFFFFU, requests_ >> 32, requests_ & 0xFFFFFFFFU};
  ++requests_;
  std::mt19937_64 random(seed);
  Fault fault;
  std::uniform_real_distribution<> uniform;
  const bool fails = uniform(random) < options_.fail_rate;
  const double kind = uniform(random);
  fault.cut_stream = uniform(random) < options_.cut_rate;
  if (options_.rate_limit > 0.0) fault.retry_after = take_token();
  if (fault.retry_after.count() > 0) {
    fault.status = 429;
  } else if (fails) {
    fault.status = kind < 1.0 / 3 ? 500 : kind < 2.0 / 3 ? 502 : 503;
    if (fault.status == 503) fault.retry_after = std::chrono::milliseconds(50);
  }
  return fault;
}

std::chrono::milliseconds FaultPlan::take_token() {
  const Clock::time_point now = Clock::now();
  const double elapsed_s = std::chrono::duration<double>(now - filled_).count();
  filled_ = now;
  tokens_ = std::min(burst(), tokens_ + elapsed_s * options_.rate_limit);
  if (tokens_ >= 1.0) {
    tokens_ -= 1.0;
    return {};
  }
  return std::chrono::milliseconds(static_cast<long>(std::ceil((1.0 - tokens_) / options_.rate_limit * 1000.0)));
}

}  // namespace example
