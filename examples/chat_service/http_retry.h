// SPDX-License-Identifier: Apache-2.0
#ifndef EXAMPLES_HTTP_RETRY_H
#define EXAMPLES_HTTP_RETRY_H

#include <chrono>
#include <random>
#include <string>

namespace example {

// Why an attempt at a request failed.
struct HttpFailure {
  int status = 0;                         // 0: there was no answer, or it broke off
  const char* reason = "provider_error";  // rate_limit, timeout or provider_error
  std::string message;
  std::chrono::milliseconds retry_after{};  // what the server asked for; 0: nothing
};

struct RetryPolicy {
  int attempts = 6;  // the first one included
  std::chrono::milliseconds first_delay{100};
  std::chrono::milliseconds longest_delay{30000};
};

// Whether another attempt may succeed: after 408, 429, 5xx and when there was no answer.
bool may_retry(const HttpFailure& failure);

// How long to wait after the attempt-th attempt (from 1) has failed: twice as long each time, up to half of it by
// chance less, so that clients do not come back together; not less than the server asked for, not more than
// longest_delay.
std::chrono::milliseconds retry_delay(const RetryPolicy& policy, int attempt, const HttpFailure& failure,
                                      std::mt19937_64& random);

// The time that a Retry-After header asks for: seconds, or an HTTP date. 0 if it is neither.
std::chrono::milliseconds parse_retry_after(const std::string& value);

}  // namespace example

#endif  // EXAMPLES_HTTP_RETRY_H
