// SPDX-License-Identifier: Apache-2.0
// The same function with a span and without. bench/run.sh compares their sizes and compile times.
#if WITH_SPAN
#include <nopspan/span.h>
#endif

void work();

void site() {
#if WITH_SPAN
  const nopspan::Span span{"bench.site"};
#endif
  work();
}
