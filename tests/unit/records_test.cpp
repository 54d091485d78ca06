// SPDX-License-Identifier: Apache-2.0
// The data that a tracer receives when a span starts. The linker replaces the probe's site by the function in this
// file.
#include "fired.h"
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/engine.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/probes.h>

#include <optional>

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

// ---- The tokens that a tracer receives at the probe first_token.

thread_local std::uint64_t tokens_so_far;

}  // namespace

// NOLINTNEXTLINE(*-reserved-identifier): the linker requires this name
extern "C" void __wrap_nopspan_site_first_token(const char*, const char*, std::uint64_t, const char*,
                                                std::uint64_t tokens, const void*) {
  tokens_so_far = tokens;
}

namespace {

TEST(FirstTokenRecord, HasTheTokensSoFarWhicheverFunctionReportsThem) {
  const RaisedGate tracer(RaisedGate::points);
  Span{nopspan::llm::stream}.first_token(2);
  EXPECT_EQ(tokens_so_far, 2U);
  const Span span{nopspan::llm::stream};
  nopspan::genai::stream_first_token([](auto& e) { e.tokens_so_far(3); });
  EXPECT_EQ(tokens_so_far, 3U);
  const nopspan_handle handle = nopspan_span_begin("llm.stream", nopspan_none());
  nopspan_call_first_token(handle, 4);
  nopspan_span_end(handle);
  EXPECT_EQ(tokens_so_far, 4U);
}

// ---- The data that a tracer receives at the probe engine_step. The linker replaces the probe's site by the function
// in this file.

struct StepHit {
  std::string engine, name, model;
  std::uint64_t duration_ns, members;
  nopspan_step_record record;
  std::vector<nopspan_member> all;
};
thread_local std::vector<StepHit> step_hits;

}  // namespace

// NOLINTNEXTLINE(*-reserved-identifier): the linker requires this name
extern "C" void __wrap_nopspan_site_engine_step(const char* engine, const char* name, std::uint64_t duration_ns,
                                                const char* model, std::uint64_t members, const void* record) {
  StepHit hit{engine, name, model, duration_ns, members, *static_cast<const nopspan_step_record*>(record), {}};
  if (members > 0) {
    const auto* first = reinterpret_cast<const nopspan_member*>(hit.record.members);
    hit.all.assign(first, first + members);
  }
  step_hits.push_back(hit);
}

namespace {

TEST(StepRecord, HasTheFactsAndAllMembers) {
  const RaisedGate tracer(RaisedGate::points);
  const Fired fired;
  step_hits.clear();
  std::vector<nopspan::engine::Member> members(1024);
  for (auto& member : members) member.decode_tokens = 2;
  members[700].prefill_tokens = 5;
  short_span(nopspan::engine::step,
             [&](auto& m) { m.engine("e").model("m").members(members.data(), members.size()).number(4); });
  { const Span step{nopspan::engine::step}; }
  { const Span other{nopspan::engine::decode}; }
  EXPECT_EQ(fired[Probe::engine_step], 2U);
  ASSERT_THAT(step_hits, SizeIs(2));
  const StepHit& hit = step_hits[0];
  EXPECT_EQ(hit.engine, "e");
  EXPECT_EQ(hit.name, "engine.step");
  EXPECT_EQ(hit.model, "m");
  EXPECT_EQ(hit.duration_ns, hit.record.span.duration_ns);
  EXPECT_EQ(hit.record.span.size, offsetof(nopspan_span, reserved));
  EXPECT_NE(hit.record.span.flags & NOPSPAN_FLAG_STEP, 0U);
  EXPECT_EQ(hit.record.span.link_count, 0U);
  EXPECT_EQ(hit.record.span.links, 0U);
  EXPECT_EQ(hit.record.step.size, offsetof(nopspan_step, reserved));
  EXPECT_EQ(hit.record.record_size, offsetof(nopspan_step_record, reserved));
  EXPECT_EQ(hit.record.step.number, 4U);
  EXPECT_EQ(hit.record.step.members_with_prefill, 1U);
  EXPECT_EQ(hit.record.step.decode_tokens, 2048U);
  ASSERT_THAT(hit.all, SizeIs(1024));
  EXPECT_EQ(hit.all[0].prefill_tokens, 5U);
  EXPECT_EQ(hit.all[700].prefill_tokens, 0U);
  EXPECT_EQ(step_hits[1].record.members, 0U);
  EXPECT_EQ(step_hits[1].engine, "");
}

}  // namespace
