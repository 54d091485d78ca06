// SPDX-License-Identifier: Apache-2.0
// The clock of the programs that measure spans without google-benchmark.
#pragma once

#include <ctime>

namespace bench {

inline double now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

}  // namespace bench
