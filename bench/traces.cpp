// SPDX-License-Identifier: Apache-2.0
// Traces with a given number of spans: `bench_traces SPANS_PER_TRACE SPANS ROUNDS THREADS [RATE]`. Each span has a
// name, ids and four attributes. Without RATE the spans are made at full speed, and the program prints the cost of one
// span in ns, the minimum of the rounds. With RATE each thread makes that many spans per second, and the program prints
// the rate that it reached. It waits for a line on standard input, so that a tracer can attach before it begins.
#include "clock.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <thread>
#include <vector>

namespace {

using bench::now_ns;

template <class F>
void fill(F& fields, long number) {
  fields.set("tool", "calculator").set("rows", number).set("cached", false).set("shard", "eu-west-1");
}

void trace(long spans) {
  const nopspan::Span root{"bench.request", [&](nopspan::Fields& f) { fill(f, spans); }};
  for (long i = 1; i < spans; ++i) {
    const nopspan::Span span{"bench.step", [&](nopspan::Fields& f) { fill(f, i); }};
  }
}

// A pause before each round. The tracer reads what is buffered, so it loses nothing. Losses would make spans look
// cheaper.
constexpr std::chrono::milliseconds kPause{100};

double run(long spans_per_trace, long spans, long rounds) {
  double least = 1e18;
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(kPause);
    const double began = now_ns();
    long done = 0;
    for (; done < spans; done += spans_per_trace) trace(spans_per_trace);
    least = std::min(least, (now_ns() - began) / static_cast<double>(done));
  }
  return least;
}

// Works in slices of one millisecond. If a slice is late, the next ones make up for it.
double run_at(double rate, long spans_per_trace, long spans) {
  const double began = now_ns();
  long done = 0;
  while (done < spans) {
    if (static_cast<double>(done) >= (now_ns() - began) * rate / 1e9) {
      const timespec piece{0, 1'000'000};
      nanosleep(&piece, nullptr);
      continue;
    }
    trace(spans_per_trace);
    done += spans_per_trace;
  }
  return static_cast<double>(done) * 1e9 / (now_ns() - began);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const long spans_per_trace = argument(1, 16), spans = argument(2, 100000), rounds = argument(3, 5);
  const long threads = argument(4, 1), rate = argument(5, 0);
  if (spans_per_trace < 1 || spans < 1 || rounds < 1 || threads < 1 || rate < 0) {
    std::fputs("usage: bench_traces SPANS_PER_TRACE SPANS ROUNDS THREADS [RATE] (all at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  std::vector<double> figures(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  for (double& figure : figures) {
    running.emplace_back([&] {
      figure = rate > 0 ? run_at(static_cast<double>(rate), spans_per_trace, spans * rounds)
                        : run(spans_per_trace, spans, rounds);
    });
  }
  for (std::thread& thread : running) thread.join();
  if (rate > 0) {
    std::printf("%.0f\n", std::accumulate(figures.begin(), figures.end(), 0.0));
  } else {
    std::printf("%.1f\n", *std::max_element(figures.begin(), figures.end()));
  }
}
