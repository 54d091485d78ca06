// SPDX-License-Identifier: Apache-2.0
// Traces of 16 spans at a rate, for `nopspan export`: `bench_export bare|chat SPANS RATE`. Prints the CPU time per
// span in ns. It waits for a line on standard input, so that a tracer can attach before it begins.
#include "../chat.h"
#include "paced.h"

#include <nopspan/span.h>

int main(int argc, char** argv) {
  const bench::Load load = bench::load_of(argc, argv);
  std::getchar();
  constexpr nopspan::Name kRequest{"bench.request"}, kStep{"bench.step"};
  int turns = 0;
  const bench::CpuMeter cpu;
  bench::paced(load, [&] {
    const nopspan::Span root{kRequest};
    for (int i = 1; i < bench::kSpansPerTrace; ++i) {
      if (load.chats) {
        bench::chat(turns);
      } else {
        const nopspan::Span span{kStep};
      }
    }
  });
  cpu.print(load.spans);
}
