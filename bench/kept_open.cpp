// SPDX-License-Identifier: Apache-2.0
// The cost of a span that is only recorded so that `nopspan open` can read it.
#include "minimum.h"

#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <benchmark/benchmark.h>

namespace {

void keep_open(const benchmark::State&) { nopspan::keep_open_spans(true); }
void keep_none_open(const benchmark::State&) { nopspan::keep_open_spans(false); }
void KeptOpenInARequest(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  for (auto _ : state) const nopspan::Span span{"bench.span"};
}
BENCHMARK(KeptOpenInARequest)->Setup(keep_open)->Teardown(keep_none_open)->Apply(bench::several);

}  // namespace
