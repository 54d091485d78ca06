// SPDX-License-Identifier: Apache-2.0
// A user's program. Reads numbers from stdin, one per line, makes that many spans, and reports when it has.
#include <nopspan/span.h>

#include <cstdio>

int main() {
  std::puts("ready");
  std::fflush(stdout);
  int spans = 0;
  while (std::scanf("%d", &spans) == 1) {
    for (int i = 0; i < spans; ++i) nopspan::span("packaged.work", [] {});
    std::puts("done");
    std::fflush(stdout);
  }
}
