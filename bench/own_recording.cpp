// SPDX-License-Identifier: Apache-2.0
// The cost of a span that its program records itself (nopspan::recording), beside a span with an in-process handler.
// The recording goes to /dev/null. Each pair of names measures the thread that makes the spans ("OfTheThread"), and the
// process with the thread that writes the recording ("OfTheProcess"). `dropped` is the share of entries that the
// recording could not take: if it is not 0, the process did less work.
#include <nopspan/recording.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <benchmark/benchmark.h>

#include <fcntl.h>
#include <unistd.h>

#include <string>

namespace {

nopspan::recording::Writer writer;

void open_writer(const benchmark::State&) {
  nopspan::recording::Options options;
  options.buffer_bytes = std::size_t{256} << 20U;
  options.close_timeout_ms = 60'000;
  const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
  const std::string error = writer.open("fd:" + std::to_string(null), options);
  if (!error.empty()) fprintf(stderr, "%s\n", error.c_str());
  close(null);
}
void close_writer(const benchmark::State&) { writer.close(); }

void attach_one(const benchmark::State&) {
  static_cast<void>(nopspan::attach(
      "bench", "bench.span.stop", [](const nopspan::Event& event) { benchmark::DoNotOptimize(event.duration_ns()); }));
}
void detach_one(const benchmark::State&) { static_cast<void>(nopspan::detach("bench")); }

void spans(benchmark::State& state) {
  const nopspan::Span request{"bench.request"};
  int value = 0;
  for (auto _ : state) {
    nopspan::Span span{"bench.span", [&](nopspan::Fields& f) { f.engine("llama.cpp").model("llama-3"); }};
    benchmark::DoNotOptimize(value += 1);
    span.set("turns", value);
  }
  const auto statistics = writer.statistics();
  if (statistics.emitted > 0) {
    state.counters["dropped"] = static_cast<double>(statistics.dropped) / static_cast<double>(statistics.emitted);
  }
}

void Disabled(benchmark::State& state) { spans(state); }
BENCHMARK(Disabled);

void HandlerOfTheThread(benchmark::State& state) { spans(state); }
BENCHMARK(HandlerOfTheThread)->Setup(attach_one)->Teardown(detach_one);

void RecordingOfTheThread(benchmark::State& state) { spans(state); }
BENCHMARK(RecordingOfTheThread)->Setup(open_writer)->Teardown(close_writer);

// What the thread of the Writer has not done yet is left out, so the spans are made slowly enough.
void RecordingOfTheProcess(benchmark::State& state) {
  for (auto _ : state) {
    for (int i = 0; i < 1000; ++i) {
      nopspan::Span span{"bench.span", [&](nopspan::Fields& f) { f.engine("llama.cpp").model("llama-3"); }};
      span.set("turns", i);
    }
    usleep(2000);
  }
  state.SetItemsProcessed(state.iterations() * 1000);
}
BENCHMARK(RecordingOfTheProcess)->Setup(open_writer)->Teardown(close_writer)->MeasureProcessCPUTime();

}  // namespace
