// SPDX-License-Identifier: Apache-2.0
// See hot.h. Each function has the same work with and without a span.
#include "hot.h"

#include <nopspan/llm.h>
#include <nopspan/span.h>

__attribute__((visibility("hidden"))) int hot_body(int x);
__attribute__((visibility("hidden"))) int hot_cost(int x);  // must not be called by a disabled span

#define HOT extern "C" __attribute__((noinline, visibility("hidden"))) int

// The + 1 after the call prevents a tail call. With a tail call, the function without a span would be a different one.
HOT hot_plain(int x) { return hot_body(x) + 1; }

HOT hot_scope(int x) {
  nopspan::Span span{"hot.scope"};
  return hot_body(x) + 1;
}

HOT hot_scope_metadata(int x) {
  nopspan::Span span{"hot.scope", [&](nopspan::Fields& m) {
                       m.model("a-model").set("cost", hot_cost(x)).set("x", x).measure("half", x / 2.0);
                     }};
  return hot_body(x) + 1;
}

HOT hot_catalogue(int x) {
  nopspan::Span span{nopspan::llm::chat,
                     [&](auto& m) { m.engine("an-engine").model("a-model").input_tokens(hot_cost(x)); }};
  return hot_body(x) + 1;
}

HOT hot_closure(int x) {
  return nopspan::span("hot.closure", [&] { return hot_body(x) + 1; });
}

HOT hot_closure_metadata(int x) {
  return nopspan::span(
      "hot.closure", [&](nopspan::Fields& m) { m.model("a-model").set("cost", hot_cost(x)).set("x", x).set("y", 0.5); },
      [&](nopspan::Span& span) {
        const int result = hot_body(x) + 1;
        span.with([&](nopspan::Fields& f) { f.set("result", result).measure("cost", hot_cost(result)); });
        return result;
      });
}

// A name that is made at run time: neither the pointer nor the text must be read.
__attribute__((visibility("hidden"))) extern const char* const hot_name;
HOT hot_text(int x) {
  nopspan::Span span{hot_name};
  return hot_body(x) + 1;
}

HOT hot_async(int x) {
  nopspan::AsyncSpan span{"hot.async"};
  const int result = hot_body(x) + 1;
  span.end();
  return result;
}

HOT hot_retry(int x) {
  nopspan::llm::retry([&](auto& r) { r.attempt(hot_cost(x)).delay_ms(500).reason("rate_limit"); });
  return hot_body(x) + 1;
}

const nopspan::AsyncSpan no_span;
HOT hot_event(int x) {
  no_span.event("hot.event", [&](nopspan::Fields& f) { f.set("cost", hot_cost(x)); });
  return hot_body(x) + 1;
}

// A loop of a hundred spans: the compiler may hoist instructions out of it, which then count once.
HOT hot_plain_100(int x) {
  int sum = 0;
  for (int i = 0; i < 100; ++i) sum += hot_body(x) + 1;
  return sum;
}
HOT hot_scope_100(int x) {
  int sum = 0;
  for (int i = 0; i < 100; ++i) {
    nopspan::Span span{"hot.scope"};
    sum += hot_body(x) + 1;
  }
  return sum;
}

// Those of the C API are in hot_c.c.
extern "C" __attribute__((visibility("hidden"))) int hot_c(int x);
extern "C" __attribute__((visibility("hidden"))) int hot_c_fields(int x);
extern "C" __attribute__((visibility("hidden"))) int hot_c_event(int x);

const Pair pairs[] = {
    {"hot_scope", hot_plain, hot_scope},
    {"hot_scope_metadata", hot_plain, hot_scope_metadata},
    {"hot_catalogue", hot_plain, hot_catalogue},
    {"hot_closure", hot_plain, hot_closure},
    {"hot_closure_metadata", hot_plain, hot_closure_metadata},
    {"hot_text", hot_plain, hot_text},
    {"hot_async", hot_plain, hot_async},
    {"hot_retry", hot_plain, hot_retry},
    {"hot_event", hot_plain, hot_event},
    {"hot_c", hot_plain, hot_c},
    {"hot_c_fields", hot_plain, hot_c_fields},
    {"hot_c_event", hot_plain, hot_c_event},
    {"hot_scope_100", hot_plain_100, hot_scope_100},
};
const int pair_count = sizeof pairs / sizeof pairs[0];
