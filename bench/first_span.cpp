// SPDX-License-Identifier: Apache-2.0
// The first span of a thread, which makes the thread's state: `bench_first [handler]` prints the median and the 99th
// percentile of the first span of 3000 threads, and of their second span, in us. Without `handler` it waits for a line
// on standard input, so that a tracer can attach before it begins.
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

namespace {

double span_us() {
  const auto began = std::chrono::steady_clock::now();
  { const nopspan::Span span{"bench.first"}; }
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count();
}

void print(const char* which, std::vector<double>& us) {
  std::sort(us.begin(), us.end());
  std::printf("%s %.2f %.2f\n", which, us[us.size() / 2], us[us.size() * 99 / 100]);
}

}  // namespace

int main(int argc, char**) {
  if (argc > 1) {
    static_cast<void>(nopspan::attach("bench", "bench.first.stop", [](const nopspan::Event&) {}));
  } else {
    std::getchar();
  }
  std::vector<double> first;
  std::vector<double> second;
  for (int i = 0; i < 3000; ++i) {
    std::thread([&] {
      first.push_back(span_us());
      second.push_back(span_us());
    }).join();
  }
  print("first", first);
  print("second", second);
  return 0;
}
