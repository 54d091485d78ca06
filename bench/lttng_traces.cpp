// SPDX-License-Identifier: Apache-2.0
// The counterpart of bench_traces with LTTng-UST: two events per span, with the same name, ids and four attributes. The
// clock is LTTng's own. `bench_lttng_traces SPANS_PER_TRACE SPANS ROUNDS THREADS`.
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_traces.h"
#include "clock.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using bench::now_ns;

// The cheapest possible ids.
unsigned long next_id(unsigned long& state) {
  state ^= state << 13U;
  state ^= state >> 7U;
  state ^= state << 17U;
  return state;
}

void span(const char* name, const unsigned char* trace_id, unsigned long id, unsigned long parent, long number) {
  lttng_ust_tracepoint(bench_span, start, name, trace_id, id, parent);
  lttng_ust_tracepoint(bench_span, stop, id, "calculator", number, 0, "eu-west-1");
}

void trace(long spans, unsigned long& state) {
  unsigned char trace_id[16];
  const unsigned long root = next_id(state);
  std::memcpy(trace_id, &root, 8);
  std::memcpy(trace_id + 8, &state, 8);
  span("bench.request", trace_id, root, 0, spans);
  for (long i = 1; i < spans; ++i) span("bench.step", trace_id, next_id(state), root, i);
}

double run(long spans_per_trace, long spans, long rounds, unsigned long seed) {
  double least = 1e18;
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // as in bench_traces
    const double began = now_ns();
    long done = 0;
    for (; done < spans; done += spans_per_trace) trace(spans_per_trace, seed);
    least = std::min(least, (now_ns() - began) / static_cast<double>(done));
  }
  return least;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const long spans_per_trace = argument(1, 16), spans = argument(2, 100000), rounds = argument(3, 5),
             threads = argument(4, 1);
  if (spans_per_trace < 1 || spans < 1 || rounds < 1 || threads < 1) {
    std::fputs("usage: bench_lttng_traces SPANS_PER_TRACE SPANS ROUNDS THREADS (all at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  std::vector<double> costs(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    running.emplace_back([&, i] { costs[i] = run(spans_per_trace, spans, rounds, i + 1); });
  }
  for (std::thread& thread : running) thread.join();
  std::printf("%.1f\n", *std::max_element(costs.begin(), costs.end()));
}
