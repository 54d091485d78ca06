// SPDX-License-Identifier: Apache-2.0
// The counterpart of bench_traces with LTTng-UST: two events per span, with the same name and ids, and with `four` the
// same four attributes. The clock is LTTng's own. `lttng_traces bare|four SPANS_PER_TRACE SPANS ROUNDS THREADS`.
#define LTTNG_UST_TRACEPOINT_CREATE_PROBES
#define LTTNG_UST_TRACEPOINT_DEFINE
#include "lttng_traces.h"
#include "clock.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>
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

template <bool four>
void span(const char* name, const unsigned char* trace_id, unsigned long id, unsigned long parent, long number) {
  lttng_ust_tracepoint(bench_span, start, name, trace_id, id, parent);
  if constexpr (four) {
    lttng_ust_tracepoint(bench_span, stop, id, "calculator", number, 0, "eu-west-1");
  } else {
    lttng_ust_tracepoint(bench_span, stop_bare, id);
  }
}

template <bool four>
void trace(long spans, unsigned long& state) {
  unsigned char trace_id[16];
  const unsigned long root = next_id(state);
  std::memcpy(trace_id, &root, 8);
  std::memcpy(trace_id + 8, &state, 8);
  span<four>("bench.request", trace_id, root, 0, spans);
  for (long i = 1; i < spans; ++i) span<four>("bench.step", trace_id, next_id(state), root, i);
}

template <bool four>
double run(long spans_per_trace, long spans, long rounds, unsigned long seed) {
  double least = 1e18;
  for (long round = 0; round < rounds; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(100));  // as in bench_traces
    const double began = now_ns();
    long done = 0;
    for (; done < spans; done += spans_per_trace) trace<four>(spans_per_trace, seed);
    least = std::min(least, (now_ns() - began) / static_cast<double>(done));
  }
  return least;
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, long otherwise) { return argc > i ? std::strtol(argv[i], nullptr, 10) : otherwise; };
  const std::string_view fields = argc > 1 ? argv[1] : "";
  const long spans_per_trace = argument(2, 16), spans = argument(3, 100000), rounds = argument(4, 5),
             threads = argument(5, 1);
  const bool four = fields == "four";
  if ((!four && fields != "bare") || spans_per_trace < 1 || spans < 1 || rounds < 1 || threads < 1) {
    std::fputs("usage: lttng_traces bare|four SPANS_PER_TRACE SPANS ROUNDS THREADS (all at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  std::vector<double> costs(static_cast<std::size_t>(threads));
  std::vector<std::thread> running;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    running.emplace_back([&, i] { costs[i] = (four ? run<true> : run<false>)(spans_per_trace, spans, rounds, i + 1); });
  }
  for (std::thread& thread : running) thread.join();
  std::printf("%.1f\n", *std::max_element(costs.begin(), costs.end()));
}
