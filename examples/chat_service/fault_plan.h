// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_FAULT_PLAN_H
#define EXAMPLES_FAULT_PLAN_H

#include <chrono>
#include <cstdint>
#include <mutex>

namespace example {

struct FaultOptions {
  double fail_rate = 0.0;   // of requests that get a 500, 502 or 503
  double cut_rate = 0.0;    // of streams whose connection ends in the middle
  double rate_limit = 0.0;  // requests a second, above which a request gets a 429; 0: no limit
  std::uint64_t seed = 0;
};

// What goes wrong with a request. The n-th request of a server fails or not by the seed and n alone.
struct Fault {
  int status = 0;                           // 0: none; 429, 500, 502 or 503
  std::chrono::milliseconds retry_after{};  // for the headers of a 429 and a 503
  bool cut_stream = false;
};

// Decides which requests fail, so that clients have something to retry. Thread-safe.
class FaultPlan {
 public:
  explicit FaultPlan(const FaultOptions& options) : options_(options), tokens_(burst()) {}

  Fault next();

 private:
  using Clock = std::chrono::steady_clock;

  double burst() const { return options_.rate_limit < 1.0 ? 1.0 : options_.rate_limit; }
  // How long to wait until the bucket has a token for a request; zero when it had one, which is taken.
  std::chrono::milliseconds take_token();

  const FaultOptions options_;
  std::mutex mutex_;
  std::uint64_t requests_ = 0;
  double tokens_;
  Clock::time_point filled_ = Clock::now();
};

}  // namespace example

#endif  // EXAMPLES_FAULT_PLAN_H
