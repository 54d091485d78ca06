// SPDX-License-Identifier: Apache-2.0
// One request with every kind of span. matrix_test.py lists the exact events. Prints the gate as the header reads it.

#include <nopspan/execute.h>
#include <nopspan/llm.h>

#include <cstdio>
#include <stdexcept>

void work(const char* request_id) {
  std::printf("gate %016llx\n", static_cast<unsigned long long>(nopspan::detail::gate()));
  nopspan::ContextScope request{nopspan::Context::with_request_id(request_id)};
  nopspan::Span scope{"matrix.scope", [](nopspan::Fields& m) { m.model("a-model"); }};
  nopspan::AsyncSpan async{"matrix.async", scope.context()};
  nopspan::llm::retry([](auto& m) { m.attempt(2).delay_ms(500).reason("rate_limit"); });
  nopspan::execute("matrix.moment");
  try {
    nopspan::span("matrix.closure", [] { throw std::out_of_range("content, not for probes"); });
  } catch (const std::out_of_range&) {
  }
  async.end();
}
