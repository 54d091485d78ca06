/* SPDX-License-Identifier: Apache-2.0
 * The functions of hot.cpp that use the C API. */
#include <nopspan/c.h>

__attribute__((visibility("hidden"))) int hot_body(int x) __asm__("_Z8hot_bodyi");
__attribute__((visibility("hidden"))) int hot_cost(int x) __asm__("_Z8hot_costi");

#define HOT __attribute__((noinline, visibility("hidden"))) int

HOT hot_c(int x);
HOT hot_c_fields(int x);
HOT hot_c_event(int x);

HOT hot_c(int x) {
  const nopspan_handle span = nopspan_span_begin("hot.c", nopspan_none());
  const int result = hot_body(x) + 1;
  nopspan_span_end(span);
  return result;
}

HOT hot_c_fields(int x) {
  const nopspan_handle span = nopspan_span_begin_in("hot.c", NULL);
  nopspan_span_model(span, "a-model");
  if (nopspan_is_recorded(span)) nopspan_span_set_int(span, "cost", hot_cost(x));
  const int result = hot_body(x) + 1;
  nopspan_span_set_int(span, "result", result);
  nopspan_span_usage(span, x, result, 0, 0);
  nopspan_span_end(span);
  return result;
}

HOT hot_c_event(int x) {
  const nopspan_handle event = nopspan_event_begin("hot.event", nopspan_none());
  nopspan_span_set_int(event, "x", x);
  nopspan_span_end(event);
  return hot_body(x) + 1;
}
