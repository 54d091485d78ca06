// SPDX-License-Identifier: Apache-2.0
// Ends spans in rounds and prints what one cost, ns, the least of the rounds: `bench_attached SPANS ROUNDS [chat]`,
// with `chat` an llm.chat with twelve attributes. Waits for a line on standard input before it begins, so that a tracer
// can attach first.
#include "chat.h"

#include <nopspan/span.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <string_view>

namespace {

double now_ns() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

}  // namespace

int main(int argc, char** argv) {
  const long spans = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 100000;
  const long rounds = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 5;
  const bool chats = argc > 3 && std::string_view(argv[3]) == "chat";
  if (spans < 1 || rounds < 1 || (argc > 3 && !chats)) {
    std::fputs("usage: bench_attached SPANS ROUNDS [chat] (both at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  double least = 1e18;
  int turns = 0;
  for (long round = 0; round < rounds; ++round) {
    const double began = now_ns();
    if (chats) {
      for (long i = 0; i < spans; ++i) bench::chat(turns);
    } else {
      for (long i = 0; i < spans; ++i) const nopspan::Span span{"bench.span"};
    }
    least = std::min(least, (now_ns() - began) / static_cast<double>(spans));
  }
  std::printf("%.1f\n", least);
}
