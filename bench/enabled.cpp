// SPDX-License-Identifier: Apache-2.0
// The cost of a span with one in-process handler, on one thread and on several.
#include "minimum.h"

#include <nopspan/fiber.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <benchmark/benchmark.h>

#include <ctime>

namespace {

// The handler only reads the duration.
void attach_one(const benchmark::State&) {
  static_cast<void>(nopspan::attach(
      "bench", "bench.span.stop", [](const nopspan::Event& event) { benchmark::DoNotOptimize(event.duration_ns()); }));
}
void detach_one(const benchmark::State&) { static_cast<void>(nopspan::detach("bench")); }

// Each recorded span needs two times, so this is most of the least possible cost.
void TwoClockReads(benchmark::State& state) {
  timespec now;
  for (auto _ : state) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    benchmark::DoNotOptimize(now);
    clock_gettime(CLOCK_MONOTONIC, &now);
    benchmark::DoNotOptimize(now);
  }
}
BENCHMARK(TwoClockReads)->Apply(bench::several);

void OneHandler(benchmark::State& state) {
  for (auto _ : state) const nopspan::Span span{"bench.span"};
}
BENCHMARK(OneHandler)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

// The usual case: the request already has an id.
void OneHandlerInARequest(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  for (auto _ : state) const nopspan::Span span{"bench.span"};
}
BENCHMARK(OneHandlerInARequest)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

void OneHandlerFourFields(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    nopspan::Span span{"bench.span", [&](nopspan::Fields& f) { f.engine("llama.cpp").model("llama-3").tenant("a"); }};
    benchmark::DoNotOptimize(value += 1);
    span.with([&](nopspan::Fields& f) { f.set("turns", value); });
  }
}
BENCHMARK(OneHandlerFourFields)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

// Suspends and resumes two scopes. Their number does not matter on one thread.
void OneHandlerFiberSwitch(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  const nopspan::Span span{"bench.span"};
  for (auto _ : state) const nopspan::FiberSwitch here;
}
BENCHMARK(OneHandlerFiberSwitch)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

// Spans that run because a handler is attached, but not to their events.
void UnhandledInARequest(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  for (auto _ : state) const nopspan::Span span{"bench.other"};
}
BENCHMARK(UnhandledInARequest)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

void UnhandledFourFields(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  for (auto _ : state) {
    const nopspan::Span span{"bench.other",
                             [](nopspan::Fields& f) { f.set("a", 1).set("b", 2).set("c", 3).set("d", 4); }};
  }
}
BENCHMARK(UnhandledFourFields)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

// CPU time of all threads divided by all spans. It is constant, because the threads share nothing.
void OneHandlerThreads(benchmark::State& state) {
  for (auto _ : state) const nopspan::Span span{"bench.span"};
}
BENCHMARK(OneHandlerThreads)->Setup(attach_one)->Teardown(detach_one)->ThreadRange(1, 8)->Apply(bench::several);

}  // namespace
