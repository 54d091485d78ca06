// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_FAULT_PLAN_H
#define EXAMPLES_FAULT_PLAN_H

#include <chrono>
#include <cstdint>
#include <mutex>

namespace example {

struct FaultOptions {
  double fail_rate = 0.0;   // the fraction of requests that get a 500, 502 or 503
  double cut_rate = 0.0;    // the fraction of streams that are cut off in the middle
  double rate_limit = 0.0;  // requests per second. Requests above this rate get a 429. 0: no limit
  std::uint64_t seed = 0;
};

// The fault of one request. Only the seed and n decide whether the n-th request of a server fails.
struct Fault {
  int status = 0;                           // 429, 500, 502 or 503. 0: none
  std::chrono::milliseconds retry_after{};  // sent in the headers of a 429 and a 503
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
  // Takes a token for a request from the bucket and returns zero. If the bucket is empty, returns how long to wait.
  std::chrono::milliseconds take_token();

  const FaultOptions options_;
  std::mutex mutex_;
  std::uint64_t requests_ = 0;
  double tokens_;
  Clock::time_point filled_ = Clock::now();
};

}  // namespace example

#endif  // EXAMPLES_FAULT_PLAN_H
