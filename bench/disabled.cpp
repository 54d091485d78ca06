// SPDX-License-Identifier: Apache-2.0
// The cost of a disabled span, compared with the same loop without it.
#include "minimum.h"

#include <nopspan/context.h>
#include <nopspan/execute.h>
#include <nopspan/fiber.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <benchmark/benchmark.h>

#if BENCH_HAVE_SDT
#include <sys/sdt.h>
#endif

namespace {

void work(int& value) { benchmark::DoNotOptimize(value += 1); }

void EmptyLoop(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) work(value);
}
BENCHMARK(EmptyLoop)->Apply(bench::several);

#if BENCH_HAVE_SDT
void BareSdtProbe(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    work(value);
    DTRACE_PROBE1(nopspan_bench, bare, value);
  }
}
BENCHMARK(BareSdtProbe)->Apply(bench::several);
#endif

void DisabledSpan(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    const nopspan::Span span{"bench.span"};
    work(value);
  }
}
BENCHMARK(DisabledSpan)->Apply(bench::several);

void DisabledSpanFourLazyFields(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    nopspan::Span span{nopspan::llm::chat, [&](auto& m) { m.engine("llama.cpp").model("llama-3").tenant("a"); }};
    work(value);
    span.with([&](nopspan::Fields& f) { f.set("turns", value); });
  }
}
BENCHMARK(DisabledSpanFourLazyFields)->Apply(bench::several);

void DisabledClosure(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) nopspan::span("bench.span", [&] { work(value); });
}
BENCHMARK(DisabledClosure)->Apply(bench::several);

void DisabledClosureFourLazyFields(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    nopspan::span(
        nopspan::llm::chat, [&](auto& m) { m.engine("llama.cpp").model("llama-3").tenant("a"); },
        [&](nopspan::Span& span) {
          work(value);
          span.with([&](nopspan::Fields& f) { f.set("turns", value); });
        });
  }
}
BENCHMARK(DisabledClosureFourLazyFields)->Apply(bench::several);

void DisabledAsyncSpan(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    nopspan::AsyncSpan span{"bench.async"};
    work(value);
    span.end();
  }
}
BENCHMARK(DisabledAsyncSpan)->Apply(bench::several);

void DisabledEvent(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    work(value);
    nopspan::execute("bench.event", [&](nopspan::Fields& f) { f.set("value", value); });
  }
}
BENCHMARK(DisabledEvent)->Apply(bench::several);

void DisabledContextScope(benchmark::State& state) {
  const nopspan::Context context = nopspan::Context::make();
  int value = 0;
  for (auto _ : state) {
    const nopspan::ContextScope scope{context};
    work(value);
  }
}
BENCHMARK(DisabledContextScope)->Apply(bench::several);

void DisabledFiberSwitch(benchmark::State& state) {
  int value = 0;
  for (auto _ : state) {
    const nopspan::FiberSwitch here;
    work(value);
  }
}
BENCHMARK(DisabledFiberSwitch)->Apply(bench::several);

}  // namespace
