// SPDX-License-Identifier: Apache-2.0
// Ends spans in several rounds and prints the cost of one span in ns, the minimum of the rounds: `bench_attached SPANS
// ROUNDS [KIND]`. KIND chat is an llm.chat with twelve attributes. KIND request is a request of twenty spans of all
// kinds, where SPANS is rounded up to whole requests. The program waits for a line on standard input, so that a tracer
// can attach before it begins.
#include "chat.h"
#include "clock.h"
#include "request.h"

#include <nopspan/span.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

int main(int argc, char** argv) {
  const long spans = argc > 1 ? std::strtol(argv[1], nullptr, 10) : 100000;
  const long rounds = argc > 2 ? std::strtol(argv[2], nullptr, 10) : 5;
  const std::string_view kind = argc > 3 ? argv[3] : "span";
  if (spans < 1 || rounds < 1 || (kind != "span" && kind != "chat" && kind != "request")) {
    std::fputs("usage: bench_attached SPANS ROUNDS [chat|request] (both at least 1)\n", stderr);
    return 2;
  }
  std::getchar();
  double least = 1e18;
  int turns = 0;
  for (long round = 0; round < rounds; ++round) {
    const double began = bench::now_ns();
    long done = 0;
    if (kind == "chat") {
      for (; done < spans; ++done) bench::chat(turns);
    } else if (kind == "request") {
      for (; done < spans; done += bench::kSpansOfARequest) bench::request();
    } else {
      for (; done < spans; ++done) const nopspan::Span span{"bench.span"};
    }
    least = std::min(least, (bench::now_ns() - began) / static_cast<double>(done));
  }
  std::printf("%.1f\n", least);
}
