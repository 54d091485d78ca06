// SPDX-License-Identifier: Apache-2.0
// What a tracer sees of a span at its start: the linker puts this file in the place of the site.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/probes.h>

#include <nopspan/agent.h>
#include <nopspan/value.h>

#include <cstdint>
#include <optional>
#include <string>

namespace {

struct Start {
  unsigned status;
  std::string error_type;
  std::string exception_kind;
};
thread_local std::optional<Start> seen;  // other tests here start spans on several threads at once

}  // namespace

// NOLINTNEXTLINE(*-reserved-identifier): the linker's name
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
  nopspan::agent::emit_tool_exception(nopspan::Value::map(), nopspan::Value::map({{"type", "app::Timeout"}}), 1);
  ASSERT_TRUE(seen.has_value());
  EXPECT_EQ(seen->status, 0U);
  EXPECT_EQ(seen->error_type, "");
  EXPECT_EQ(seen->exception_kind, "");
}

}  // namespace
