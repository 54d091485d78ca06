/* SPDX-License-Identifier: Apache-2.0
 * The cost of a span by the C API: c_spans [disabled|open]. Prints lines "NAME NS": the minimum of nine runs. */
#include <nopspan/c.h>

#include <stdio.h>
#include <string.h>

enum { rounds = 9, spans = 500000 };

static nopspan_handle request;

static void empty(void) { __asm__ volatile("" ::: "memory"); }
static void span(void) { nopspan_span_end(nopspan_span_begin("bench.span", request)); }
static void fields(void) {
  const nopspan_handle span = nopspan_span_begin("bench.span", request);
  nopspan_span_set_text(span, "table", "orders");
  nopspan_span_set_int(span, "shard", 3);
  nopspan_span_set_bool(span, "cached", false);
  nopspan_span_measure_int(span, "rows", 42);
  nopspan_span_end(span);
}

/* Inlined with `work`, so that the loop is the program's own. */
static inline __attribute__((always_inline)) void measure(const char* name, void (*work)(void)) {
  uint64_t least = UINT64_MAX;
  for (int round = 0; round < rounds; ++round) {
    const uint64_t start = nopspan_now_ns();
    for (int i = 0; i < spans; ++i) {
      work();
      __asm__ volatile("" ::: "memory");
    }
    const uint64_t took = nopspan_now_ns() - start;
    if (took < least) least = took;
  }
  printf("%s %.2f\n", name, (double)least / spans);
}

int main(int argc, char** argv) {
  const nopspan_context nothing = {{0}};
  if (argc != 2 || (strcmp(argv[1], "disabled") != 0 && strcmp(argv[1], "open") != 0)) {
    fputs("usage: c_spans disabled|open\n", stderr);
    return 2;
  }
  nopspan_keep_open_spans(argv[1][0] == 'o');
  request = nopspan_span_begin_in("bench.request", &nothing);
  measure("empty", empty);
  measure("span", span);
  measure("fields", fields);
  nopspan_span_end(request);
  return 0;
}
