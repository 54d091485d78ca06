// SPDX-License-Identifier: Apache-2.0
#include "http_retry.h"

#include <algorithm>
#include <cstdlib>
#include <ctime>

namespace example {

using std::chrono::milliseconds;

bool may_retry(const HttpFailure& failure) {
  return failure.status == 0 || failure.status == 408 || failure.status == 429 || failure.status >= 500;
}

milliseconds retry_delay(const RetryPolicy& policy, int attempt, const HttpFailure& failure, std::mt19937_64& random) {
  const int doublings = std::min(attempt - 1, 20);
  const auto longest = std::min(policy.first_delay.count() << doublings, policy.longest_delay.count());
  std::uniform_int_distribution<milliseconds::rep> jitter(longest / 2, longest);
  return std::min(std::max(milliseconds(jitter(random)), failure.retry_after), policy.longest_delay);
}

milliseconds parse_retry_after(const std::string& value) {
  if (value.empty()) return {};
  char* end = nullptr;
  const double seconds = std::strtod(value.c_str(), &end);
  if (end != value.c_str() && *end == '\0') {
    return seconds > 0.0 ? milliseconds(static_cast<milliseconds::rep>(std::min(seconds, 86400.0) * 1000.0))
                         : milliseconds(0);
  }
  std::tm date{};
  end = strptime(value.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &date);
  if (end == nullptr || *end != '\0') return {};
  const double away_s = std::difftime(timegm(&date), std::time(nullptr));
  return away_s > 0.0 ? milliseconds(static_cast<milliseconds::rep>(away_s * 1000.0)) : milliseconds(0);
}

}  // namespace example
