// SPDX-License-Identifier: Apache-2.0
// The machines are noisy: what a piece of code costs is the least of several runs, compared with others of one process.
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
