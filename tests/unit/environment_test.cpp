// SPDX-License-Identifier: Apache-2.0
// Runs under NOPSPAN_DISABLE=1, NOPSPAN_CAPTURE_CONTENT, OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT,
// NOPSPAN_KEEP_OPEN=1, NOPSPAN_STACKTRACE=1 and none of them. The argument names the expected behaviour: "disabled",
// "capturing", "capturing_spans", "capturing_events", "keeping", "tracing" or "listening".
#include "base/counters.h"
#include "expect.h"
#include "thread/stacktrace.h"

#include <nopspan/context.h>
#include <nopspan/detail/gate.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <cstring>
#include <stdexcept>
#include <string_view>

int main(int argc, char** argv) {
  const std::string_view expected = argc > 1 ? argv[1] : "listening";
  const bool disabled = expected == "disabled";
  EXPECT(nopspan::detail::captures_content(true) == (expected == "capturing" || expected == "capturing_spans"));
  EXPECT(nopspan::detail::captures_content(false) == (expected == "capturing" || expected == "capturing_events"));
  EXPECT(nopspan::detail::capturing_stacktraces.load() == (expected == "tracing"));
  const bool keeping = expected == "keeping";
  EXPECT(static_cast<bool>(nopspan::Span{"work"}) == keeping);
  using nopspan::Context;
  using nopspan::Errc;
  int calls = 0;
  int evaluated = 0;
  const auto handler = [&](const nopspan::Event&) { ++calls; };
  EXPECT(nopspan::attach_many("id", {"work.start", "work.stop", "a.b", "llm.adapter.retry"}, handler) == Errc::ok);
  EXPECT(((nopspan::detail::gate() & nopspan::detail::kGateSpanHandlers) == 0) == disabled);
  {
    nopspan::Span span{"work", [&](nopspan::Fields&) { ++evaluated; }};
    EXPECT(static_cast<bool>(span) != disabled);
    nopspan::execute("a.b", [&](nopspan::Fields&) { ++evaluated; });
    nopspan::llm::retry([&](auto&) { ++evaluated; });
    EXPECT(Context::current().empty() == disabled);
  }
  nopspan::AsyncSpan{"work"}.end();
  nopspan::complete("work", Context(), 1, 1);
  nopspan::gauge("g", 1);
  EXPECT(nopspan::span("work", [] { return 7; }) == 7);
  EXPECT(calls == (disabled ? 0 : 10));
  EXPECT(evaluated == (disabled ? 0 : 3));

  // Functions that the application calls for their result work in every environment.
  {
    const nopspan::ContextScope here{Context::with_request_id("order-7")};
    EXPECT(nopspan::request_id() == "order-7");
  }
  const char* const header = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT(Context::from_traceparent(header).traceparent() == header);
  EXPECT(nopspan::make_request_id().size() == 22);
  bool thrown = false;
  try {
    nopspan::span("work", [] { throw std::runtime_error("boom"); });
  } catch (const std::runtime_error&) {
    thrown = true;
  }
  EXPECT(thrown);
  EXPECT(nopspan::list_handlers().size() == 4);
  EXPECT(nopspan::detach("id") == Errc::ok);
  EXPECT(static_cast<bool>(nopspan::Span{"work"}) == keeping);
  nopspan::keep_open_spans(!keeping);
  EXPECT(static_cast<bool>(nopspan::Span{"work"}) == (!keeping && !disabled));
  nopspan::keep_open_spans(false);
  EXPECT(nopspan::detail::gate() == 0);

  // Nothing was dropped or repaired, so every counter is zero.
  const nopspan::Stats counts = nopspan::stats();
  const nopspan::Stats none{};
  EXPECT(std::memcmp(&counts, &none, sizeof(none)) == 0);
  return failures == 0 ? 0 : 1;
}
