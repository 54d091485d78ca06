// SPDX-License-Identifier: Apache-2.0
// Benchmark machines are noisy. The cost of a piece of code is therefore the minimum of several runs. Compare it only
// with other figures of the same process.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <vector>

namespace bench {

inline double minimum(const std::vector<double>& runs) { return *std::min_element(runs.begin(), runs.end()); }

inline void several(benchmark::internal::Benchmark* b) {
  b->Repetitions(9)->ReportAggregatesOnly(true)->ComputeStatistics("min", minimum);
}

}  // namespace bench
