// SPDX-License-Identifier: Apache-2.0
// The cost of one token of a stream.
#include "minimum.h"

#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/stream.h>

#include <benchmark/benchmark.h>

#include <ctime>
#include <optional>

namespace {

void attach_one(const benchmark::State&) {
  const auto look = [](const nopspan::Event& event) { benchmark::DoNotOptimize(event.duration_ns()); };
  static_cast<void>(nopspan::attach("stream", "llm.stream.stop", look));
}
void detach_one(const benchmark::State&) { static_cast<void>(nopspan::detach("stream")); }

void OneClockRead(benchmark::State& state) {
  timespec now;
  for (auto _ : state) {
    clock_gettime(CLOCK_MONOTONIC, &now);
    benchmark::DoNotOptimize(now);
  }
}
BENCHMARK(OneClockRead)->Apply(bench::several);

void count_tokens(benchmark::State& state) {
  nopspan::StreamMeter meter{nopspan::AsyncSpan{nopspan::llm::stream}};
  int value = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(value += 1);
    meter.token();
  }
  meter.end();
}
void DisabledToken(benchmark::State& state) { count_tokens(state); }
BENCHMARK(DisabledToken)->Apply(bench::several);
void EnabledToken(benchmark::State& state) { count_tokens(state); }
BENCHMARK(EnabledToken)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

struct Source {
  int at = 0;
  std::optional<int> operator()() {
    benchmark::DoNotOptimize(at += 1);
    return at;
  }
};

void BareSource(benchmark::State& state) {
  Source source;
  for (auto _ : state) benchmark::DoNotOptimize(source());
}
BENCHMARK(BareSource)->Apply(bench::several);

void pull_items(benchmark::State& state) {
  auto stream = nopspan::llm::pull_stream(Source());
  for (auto _ : state) benchmark::DoNotOptimize(stream.next());
}
void DisabledPull(benchmark::State& state) { pull_items(state); }
BENCHMARK(DisabledPull)->Apply(bench::several);
void EnabledPull(benchmark::State& state) { pull_items(state); }
BENCHMARK(EnabledPull)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

void EnabledAsyncSpan(benchmark::State& state) {
  for (auto _ : state) nopspan::AsyncSpan{nopspan::llm::stream}.end();
}
BENCHMARK(EnabledAsyncSpan)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

void EnabledMeter(benchmark::State& state) {
  for (auto _ : state) nopspan::StreamMeter{nopspan::AsyncSpan{nopspan::llm::stream}}.end();
}
BENCHMARK(EnabledMeter)->Setup(attach_one)->Teardown(detach_one)->Apply(bench::several);

}  // namespace
