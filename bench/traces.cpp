// SPDX-License-Identifier: Apache-2.0
// Traces with a given number of spans: `bench_traces FIELDS SPANS_PER_TRACE SPANS ROUNDS THREADS [RATE]`. FIELDS is
// `bare` or `four`: a span has a name and ids, and with `four` it also has four attributes. Without RATE the spans are
// made at full speed, and the program prints the cost of one span in ns, the minimum of the rounds. With RATE each
// thread makes that many spans per second, and the program prints the rate that it reached. It waits for a line on
// standard input, so that a tracer can attach before it begins.
#include "clock.h"
#include "sample_span.h"

#include <nopspan/span.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <numeric>
#include <string_view>
#include <thread>
#include <vector>

namespace {

using bench::now_ns;

constexpr nopspan::Name kRequest{"bench.request"};
// One of 128 traces has this name, so that a filter by name shows fewer than 1 % of them.
constexpr nopspan::Name kRareRequest{"bench.rare"};
constexpr long kRareEvery = 128;

template <bool four>
void trace(nopspan::Name name, long spans) {
  const nopspan::Span root = bench::start<four>(name, spans);
  for (long i = 1; i < spans; ++i) const nopspan::Span span = bench::start<four>("bench.step", i);
}

// A pause before each round. The tracer reads what is buffered, so it loses nothing. Losses would make spans look
// cheaper.
constexpr std::chrono::milliseconds kPause{100};

template <bool four>
double run(long spans_per_trace, long spans, long rounds) {
  double least = 1e18;
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(kPause);
    const double began = now_ns();
    long done = 0;
    for (; done < spans; done += spans_per_trace) trace<four>(kRequest, spans_per_trace);
    least = std::min(least, (now_ns() - began) / static_cast<double>(done));
  }
  return least;
}

// For a second after the gate was raised, the library marks root spans as possible orphans: their parents may have
// begun before. `nopspan trace` does not show such a trace, and keeps it for longer. So the spans at a rate begin later
// than that. The library first sees the raised gate at the first span.
constexpr std::chrono::milliseconds kDoubt{2000};

// Works in slices of one millisecond. If a slice is late, the next ones make up for it.
template <bool four>
double run_at(double rate, long spans_per_trace, long spans) {
  trace<four>(kRequest, spans_per_trace);
  std::this_thread::sleep_for(kDoubt);
  const double began = now_ns();
  long done = 0, traces = 0;
  while (done < spans) {
    if (static_cast<double>(done) >= (now_ns() - began) * rate / 1e9) {
      const timespec piece{0, 1'000'000};
      nanosleep(&piece, nullptr);
      continue;
    }
    trace<four>(traces++ % kRareEvery == 0 ? kRareRequest : kRequest, spans_per_trace);
    done += spans_per_trace;
  }
  return static_cast<double>(done) * 1e9 / (now_ns() - began);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const std::string_view fields = argc > 1 ? argv[1] : "";
  const long spans_per_trace = argument(2, 16), spans = argument(3, 100000), rounds = argument(4, 5);
  const long threads = argument(5, 1), rate = argument(6, 0);
  const bool four = fields == "four";
  if ((!four && fields != "bare") || spans_per_trace < 1 || spans < 1 || rounds < 1 || threads < 1 || rate < 0) {
    std::fputs("usage: bench_traces bare|four SPANS_PER_TRACE SPANS ROUNDS THREADS [RATE] (all at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  std::vector<double> figures(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  for (double& figure : figures) {
    running.emplace_back([&] {
      if (rate > 0) {
        figure = (four ? run_at<true> : run_at<false>)(static_cast<double>(rate), spans_per_trace, spans * rounds);
      } else {
        figure = (four ? run<true> : run<false>)(spans_per_trace, spans, rounds);
      }
    });
  }
  for (std::thread& thread : running) thread.join();
  if (rate > 0) {
    std::printf("%.0f\n", std::accumulate(figures.begin(), figures.end(), 0.0));
  } else {
    std::printf("%.1f\n", *std::max_element(figures.begin(), figures.end()));
  }
}
