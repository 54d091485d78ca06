// SPDX-License-Identifier: Apache-2.0
// What a span costs with nopspan_mini.h and with the library, in one run: while nobody traces, and while threads write
// batches. No tracer is attached then, so this does not include its hits, one for each full buffer.
#include "minimum.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <benchmark/benchmark.h>

#define NPM_IMPLEMENTATION
#include <nopspan_mini.h>

namespace {

void work(int& value) { benchmark::DoNotOptimize(value += 1); }

// Raises both gates, as the kernel does when a collector attaches.
class Recorded {
 public:
  Recorded() { set(std::uint64_t{1} << 16U); }
  ~Recorded() { set(0); }
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;

 private:
  static void set(std::uint64_t word) { npm1_gate[0] = *const_cast<std::uint64_t*>(nopspan_gate_ptr) = word; }
};

void EmptyLoop(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) work(value);
}
BENCHMARK(EmptyLoop)->Apply(bench::several);

void spans_of_the_library(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    const nopspan::Span span{"bench.span"};
    work(value);
  }
}

void spans_of_the_header(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    const npm_span span = npm_span_begin("bench.span", npm_none());
    work(value);
    npm_span_end(span);
  }
}

void DisabledByTheLibrary(benchmark::State& state) { spans_of_the_library(state); }
BENCHMARK(DisabledByTheLibrary)->Apply(bench::several);
void DisabledByTheHeader(benchmark::State& state) { spans_of_the_header(state); }
BENCHMARK(DisabledByTheHeader)->Apply(bench::several);

void RecordedByTheLibrary(benchmark::State& state) {
  const Recorded recorded;
  spans_of_the_library(state);
}
BENCHMARK(RecordedByTheLibrary)->Apply(bench::several);
void RecordedByTheHeader(benchmark::State& state) {
  const Recorded recorded;
  spans_of_the_header(state);
}
BENCHMARK(RecordedByTheHeader)->Apply(bench::several);

void FourAttributesByTheLibrary(benchmark::State& state) {
  const Recorded recorded;
  for (auto _ : state) {
    const nopspan::Span span{"bench.span", [](nopspan::Fields& fields) {
                               fields.set("table", "users").set("rows", 12).set("ratio", 0.5).set("cached", true);
                             }};
  }
}
BENCHMARK(FourAttributesByTheLibrary)->Apply(bench::several);
void FourAttributesByTheHeader(benchmark::State& state) {
  const Recorded recorded;
  for (auto _ : state) {
    const npm_span span = npm_span_begin("bench.span", npm_none());
    npm_span_set_text(span, "table", "users");
    npm_span_set_int(span, "rows", 12);
    npm_span_set_double(span, "ratio", 0.5);
    npm_span_set_bool(span, "cached", 1);
    npm_span_end(span);
  }
}
BENCHMARK(FourAttributesByTheHeader)->Apply(bench::several);

}  // namespace
