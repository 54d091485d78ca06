// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_HTTP_RETRY_H
#define EXAMPLES_HTTP_RETRY_H

#include <chrono>
#include <random>
#include <string>

namespace example {

// Why an attempt at a request failed.
struct HttpFailure {
  int status = 0;                         // 0 if there was no answer, or not a complete one
  const char* reason = "provider_error";  // rate_limit, timeout or provider_error
  std::string message;
  std::chrono::milliseconds retry_after{};  // what the server asked for, or 0
};

struct RetryPolicy {
  int attempts = 6;  // including the first one
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds longest_delay{30000};
};

// Whether another attempt may succeed: after 408, 429, 5xx, and if there was no answer.
bool may_retry(const HttpFailure& failure);

// How long to wait after the attempt-th attempt (counted from 1) has failed. The delay doubles with each attempt. A
// random part of up to one half is subtracted, so that clients do not return at the same time. The result is at least
// what the server asked for, and at most longest_delay.
std::chrono::milliseconds retry_delay(const RetryPolicy& policy, int attempt, const HttpFailure& failure,
                                      std::mt19937_64& random);

// The delay that a Retry-After header asks for, in seconds or as an HTTP date. 0 if it is neither.
std::chrono::milliseconds parse_retry_after(const std::string& value);

}  // namespace example

#endif  // EXAMPLES_HTTP_RETRY_H
