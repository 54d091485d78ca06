// SPDX-License-Identifier: Apache-2.0
// The data that a tracer receives when a span starts. The linker replaces the probe's site by the function in this
// file.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/probes.h>

#include <nopspan/agent.h>
#include <nopspan/event.h>

#include <cstdint>
#include <optional>
#include <string>

namespace {

struct Start {
  unsigned status;
  std::string error_type;
  std::string exception_kind;
};
// Per thread, because other tests in this program start spans on several threads.
thread_local std::optional<Start> seen;

}  // namespace

// NOLINTNEXTLINE(*-reserved-identifier): the linker requires this name
extern "C" void __wrap_nopspan_site_span_start(const char*, const char*, std::uint64_t, const char*, std::uint64_t,
                                               const void* record) {
  const auto& span = *static_cast<const nopspan_span*>(record);
  seen = Start{span.status, reinterpret_cast<const char*>(span.error_type),
               reinterpret_cast<const char*>(span.exception_kind)};
}

namespace {

TEST(StartRecord, OfWhatIsOverHasNoOutcome) {
  const RaisedGate tracer(RaisedGate::spans);
  seen.reset();
  EXPECT_EQ(
      nopspan::agent::emit_tool_exception(nopspan::Value::map(), nopspan::Value::map({{"type", "app::Timeout"}}), 1),
      Errc::ok);
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->status, 0U);
  EXPECT_EQ(seen->error_type, "");
  EXPECT_EQ(seen->exception_kind, "");
}

}  // namespace
