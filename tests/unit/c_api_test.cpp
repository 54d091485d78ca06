// SPDX-License-Identifier: Apache-2.0
// The C API emits what the C++ API emits, and a misuse is harmless and counted.
#include "c_program.h"
#include "in_child.h"
#include "in_thread.h"
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/propagation.h>

#include <atomic>
#include <cstddef>
#include <cstring>
#include <functional>
#include <set>
#include <string>
#include <vector>

namespace {

namespace engine = nopspan::engine;
using nopspan::Stats;

const std::vector<std::string> kAll = {"c.*", "llm.*", "engine.*", "agent.*", "gen_ai.*", "unnamed.*"};

// Replaces values that differ in each run by "any".
void describe(const char* kind, nopspan::FieldsView fields, std::string& to) {
  const std::set<std::string_view> varying = {"span_id",
                                              "duration",
                                              "monotonic_time",
                                              "system_time",
                                              "time_to_first_token",
                                              "ttft_ns",
                                              "gen_ai.response.time_to_first_chunk"};
  fields.for_each([&](std::string_view key, nopspan::ValueView value) {
    const bool is_id = (key == "request_id" || key == "nopspan.request_id") && value.as_string().size() == 22;
    const bool varies =
        varying.count(key) != 0 || is_id || key == "parent_id" || key.substr(0, 15) == "gen_ai.latency.";
    to += std::string("\n  ") + kind + " " + std::string(key) + (value.is_content() ? " (content)" : "") + " = " +
          (varies && !value.is_null() ? "any" : value.copy().to_string());
  });
}

std::string description(const nopspan::OwnedEvent& event) {
  std::string text = std::string(event->name()) + " " + to_string(event->status()) + " flags " +
                     std::to_string(event->flags()) + " links " + std::to_string(event->link_count()) +
                     (event->parent_id() != 0 ? " child" : "");
  describe("metadata", event->metadata(), text);
  describe("measurement", event->measurements(), text);
  describe("attribute", event->attributes(), text);
  if (const engine::Step* const step = event->step(); step != nullptr) {
    for (const std::uint64_t fact :
         {std::uint64_t{static_cast<unsigned>(step->kind)}, step->instance, step->number, std::uint64_t{step->members},
          std::uint64_t{step->members_with_prefill}, std::uint64_t{step->dropped}, std::uint64_t{step->batch_size},
          step->prefill_tokens, step->decode_tokens, step->drafted_tokens, step->accepted_tokens, step->budget_tokens,
          step->host_ns, step->device_ns, step->kv_used}) {
      text += " " + std::to_string(fact);
    }
    for (std::size_t i = 0; i < event->member_count(); ++i) {
      const engine::Member& member = event->members()[i];
      text += "\n  member " + std::to_string(member.request) + " " + std::to_string(member.prefill_tokens) + " " +
              std::to_string(member.context_tokens) + " " + std::to_string(member.decode_tokens) + " " +
              std::to_string(member.flags);
    }
  }
  return text;
}

template <class Work>
std::vector<std::string> described(const Work& work) {
  const Recorder recorder(kAll);
  EXPECT_EQ(recorder.error(), Errc::ok);
  work();
  std::vector<std::string> all;
  for (const nopspan::OwnedEvent& event : recorder.events()) all.push_back(description(event));
  return all;
}

std::vector<std::uint64_t> counts() {
  const Stats now = nopspan::stats();
  std::vector<std::uint64_t> all(sizeof(now) / sizeof(std::uint64_t));
  std::memcpy(all.data(), &now, sizeof(now));
  return all;
}

// By how much all counters grow.
template <class Work>
std::vector<std::uint64_t> counted(const Work& work) {
  std::vector<std::uint64_t> grown = counts();
  for (std::uint64_t& count : grown) count = -count;
  work();
  const std::vector<std::uint64_t> after = counts();
  for (std::size_t i = 0; i < grown.size(); ++i) grown[i] += after[i];
  return grown;
}

// Both programs emit, and count, the same as `in_cxx`, which uses the C++ API.
template <class Work>
void expect_same(void (*c_program::*call)(void), const Work& in_cxx) {
  std::vector<std::string> expected;
  const auto expected_counts = counted([&] { expected = described(in_cxx); });
  EXPECT_THAT(expected, Not(IsEmpty()));
  for (const c_program* const program : {&program_in_c, &program_in_cxx}) {
    std::vector<std::string> emitted;
    const auto emitted_counts = counted([&] { emitted = described(program->*call); });
    EXPECT_EQ(emitted, expected) << (program == &program_in_c ? "C" : "C++");
    EXPECT_EQ(emitted_counts, expected_counts);
  }
}

constexpr const char* kOfCaller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(CApi, ChatIsThatOfTheCatalogue) {
  expect_same(&c_program::chat, [] {
    AsyncSpan span{nopspan::llm::chat, Context(), nopspan::SpanKind::server,
                   [](auto& m) { m.request_id("order-7").engine("vllm").model("llama-3").temperature(0.25); }};
    span.first_token();
    span.input_tokens(120).output_tokens(34).cached_tokens(0);
    span.set("finish_reason", "stop").content("chat_result", "hello");
    span.end();
  });
}

TEST(CApi, ChildrenInheritAndScopesNest) {
  expect_same(&c_program::request_with_children, [] {
    const Context request = Context::from_traceparent(kOfCaller);
    AsyncSpan outer{"c.outer", request.with_label("tenant", "acme")};
    outer.label("model", "small");
    AsyncSpan inner{"c.inner", outer};
    {
      const ContextScope scope{inner};
      AsyncSpan innermost{"c.innermost", Context::current()};
      innermost.link(request).end();
    }
    AsyncSpan{std::string("c.text"), inner}.end();
    inner.end();
    outer.end();
    AsyncSpan{"c.orphan", AsyncSpan()}.end();
    AsyncSpan{"c.request"}.end();
  });
}

TEST(CApi, EndsHaveTheStatusOfTheirName) {
  expect_same(&c_program::ends, [] {
    const Context request = Context::with_request_id("r");
    AsyncSpan{"c.failed", request}.fail("timeout");
    AsyncSpan{"c.failed", request}.fail("io.Error", "disk is full");
    AsyncSpan{"c.failed", request}.fail("the disk is full");
    AsyncSpan{"c.cancelled", request}.cancel("client is gone");
    AsyncSpan{"c.cancelled", request}.cancel();
  });
}

TEST(CApi, EventsAreThoseOfTheCatalogues) {
  expect_same(&c_program::events, [] {
    const Context request = Context::with_request_id("r");
    AsyncSpan span{"c.span", request};
    span.event("c.event");
    nopspan::execute(request, "c.event", [](Fields& f) { f.set("shard", 4).measure("age_ms", 12); });
    engine::preempted(span, [](auto& e) { e.reason("no_blocks").blocks(3); });
    nopspan::agent::operators::wait(span, [](auto& e) { e.operator_name("ets").ms(5); });
    nopspan::llm::retry(span, [](auto& r) { r.attempt(2).delay_ms(500).reason("rate_limit"); });
    nopspan::genai::retry(span, 1);
    nopspan::llm::retry(span, [](auto& r) { r.attempt(3); });
    nopspan::genai::stream_first_token(span, [](auto& e) { e.tokens_so_far(2); });
    span.end();
  });
}

TEST(CApi, GaugesAndCountersHaveTheirLabels) {
  expect_same(&c_program::gauges, [] {
    nopspan::gauge("slots_busy", 3, [](auto& g) { g.engine("llama.cpp").maximum(8); });
    nopspan::gauge("waiting{reason=slots}", -2);
    nopspan::counter("aborted", 17, [](auto& g) { g.engine("llama.cpp"); });
    nopspan::gauge("waiting", 5, [](auto& g) { g.engine("vllm").label("adapter", "german"); });
    nopspan::counter("restarts", 1, [](auto& g) { g.model("small"); });
    engine::stats([](auto& m) { m.running(3).waiting("capacity", 1).counter("requests", 99); });
  });
}

TEST(CApi, AStepHasFactsAndMembers) {
  expect_same(&c_program::step, [] {
    AsyncSpan request{engine::request};
    engine::Member members[3] = {engine::Member::of(AsyncSpan(), 42),
                                 engine::Member::of(Context::from_traceparent(kOfCaller), 43),
                                 engine::Member::of(request, 44)};
    members[0].decode_tokens = 1;
    members[1].prefill_tokens = 100;
    members[1].context_tokens = 7;
    members[2].request = 1;
    AsyncSpan pass{engine::step, AsyncSpan()};
    pass.with<engine::StepFields>([&](auto& m) {
      m.instance(1).number(77).batch_size(4).prefill_tokens(101).decode_tokens(2).drafted_tokens(5);
      m.accepted_tokens(3).budget_tokens(2048).host_ns(1000).device_ns(2000).kv_used(4096);
      m.kind(engine::StepKind::mixed).members(members, 3);
    });
    pass.end();
    request.end();
  });
}

TEST(CApi, CompleteSpansHaveTheGivenTimes) {
  expect_same(&c_program::complete, [] {
    nopspan::complete(engine::device, Context(), 1000, 500, [](auto& m) { m.device("gpu0").measure("watts", 300); });
    AsyncSpan other{"c.measured", Context(), nopspan::SpanOptions(nopspan::SpanKind::unspecified, 1000)};
    other.end_at(1700);
    other.end();
  });
  const Recorder recorder{"c.measured.stop", "engine.device.stop"};
  program_in_c.complete();
  EXPECT_EQ(recorder.events().at(0)->duration_ns(), 500);
  EXPECT_EQ(recorder.events().at(1)->duration_ns(), 700);
}

TEST(CApi, FieldsHaveTheirTypes) {
  expect_in_child([] {  // a process has few keys of labels
    expect_same(&c_program::fields, [] {
      AsyncSpan span{"c.fields"};
      span.set("int", -5).set("uint", 5U).set("large", UINT64_MAX).set("double", 0.5).set("bool", true);
      span.set("null", nullptr).set("text", "value").set("no text", static_cast<const char*>(nullptr));
      span.set("part", "val").set("ints", {1, -2, 3}).set("doubles", {0.5, 2.0});
      span.set("texts", std::vector<const char*>{"a", nullptr, "b"}).measure("rows", 42).measure("seconds", 1.5);
      span.tenant("acme").label("route", "eu").set("tool_name", "search");
      span.end();
    });
  });
}

TEST(CApi, AnExceptionOfAnotherLanguageIsOne) {
  const SpanRecorder recorder("c.raising");
  const char* const frames[] = {"inner", "outer"};
  nopspan_span_exception(nopspan_span_begin("c.raising", nopspan_none()), "ValueError", "no rows", frames, 2);
  const auto exception = recorder.exception();
  EXPECT_THAT(exception, AllOf(HasStatus(Status::exception), HasMetadata("kind", "error"),
                               HasMetadata("reason", Value::map({{"type", "ValueError"}, {"message", "no rows"}})),
                               HasMetadata("stacktrace", Value::list({"inner", "outer"}))));
  EXPECT_TRUE(exception->metadata("reason").is_content());
  EXPECT_TRUE(exception->metadata("stacktrace").is_content());
}

// ---- Contexts ----

TEST(CApi, ContextsAreTheSameBytes) {
  const Context made = Context::from_traceparent(kOfCaller).with_label("tenant", "acme");
  nopspan_context copy;
  std::memcpy(&copy, &made, sizeof(copy));
  char text[NOPSPAN_ROOM_TRACEPARENT];
  EXPECT_EQ(nopspan_context_traceparent(&copy, text, sizeof(text)), 55U);
  EXPECT_STREQ(text, kOfCaller);
  EXPECT_EQ(nopspan_context_label(&copy, "tenant", text, sizeof(text)), 4U);
  EXPECT_STREQ(text, "acme");
  EXPECT_EQ(nopspan_context_trace_id(&copy, text, NOPSPAN_ROOM_TRACE_ID), 32U);
  EXPECT_STREQ(text, "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(nopspan_context_request_id(&copy, text, sizeof(text)), 22U);
  EXPECT_EQ(text, std::string(made.request_id()));
  EXPECT_EQ(nopspan_context_span_id(&copy), made.span_id());
  EXPECT_FALSE(nopspan_context_is_empty(&copy));
}

TEST(CApi, ATextThatHasNoRoomIsEmpty) {
  const nopspan_context context = nopspan_context_from(kOfCaller);
  char text[NOPSPAN_ROOM_TRACEPARENT] = "x";
  EXPECT_EQ(nopspan_context_traceparent(&context, text, sizeof(text) - 1), 55U);
  EXPECT_STREQ(text, "");
  EXPECT_EQ(nopspan_context_traceparent(&context, nullptr, 0), 55U);
  EXPECT_EQ(nopspan_context_traceparent(nullptr, text, sizeof(text)), 0U);
  EXPECT_TRUE(nopspan_context_is_empty(nullptr));
}

TEST(CApi, HeadersGoThroughCallbacks) {
  using Headers = std::map<std::string, std::string>;
  Headers sent;
  const Headers received = {{"traceparent", kOfCaller}, {"tracestate", "a=1"}, {"baggage", "tenant=acme,other=2"}};
  const auto get = [](void* carrier, const char* key, size_t* size) -> const char* {
    const auto& headers = *static_cast<const Headers*>(carrier);
    const auto found = headers.find(key);
    if (found == headers.end()) return nullptr;
    *size = found->second.size();
    return found->second.data();
  };
  const auto set = [](void* carrier, const char* key, const char* value, size_t size) {
    (*static_cast<Headers*>(carrier))[key] = std::string(value, size);
  };
  const nopspan_context context = nopspan_context_extract(get, const_cast<Headers*>(&received));
  nopspan_context_inject(&context, set, &sent);
  EXPECT_EQ(sent, received);

  char text[NOPSPAN_ROOM_BAGGAGE];
  const nopspan_context again = nopspan_context_from_headers(kOfCaller, "a=1", "tenant=acme,other=2");
  nopspan_context_tracestate(&again, text, NOPSPAN_ROOM_TRACESTATE);
  EXPECT_STREQ(text, "a=1");
  nopspan_context_baggage(&again, text, sizeof(text));
  EXPECT_STREQ(text, "tenant=acme,other=2");

  const nopspan_context none = nopspan_context_extract(nullptr, nullptr);
  EXPECT_TRUE(nopspan_context_is_empty(&none));
  nopspan_context_inject(&context, nullptr, nullptr);
}

TEST(CApi, AScopeMakesItsContextCurrent) {
  const nopspan_context request = nopspan_context_make();
  const nopspan_scope scope = nopspan_scope_enter(&request);
  const nopspan_context current = nopspan_context_current();
  EXPECT_EQ(std::memcmp(&current, &request, sizeof(current)), 0);
  const nopspan_scope inner = nopspan_scope_enter(nullptr);
  EXPECT_TRUE(Context::current().empty());
  const Counted left(&Stats::scopes_left);
  nopspan_scope_leave(scope);  // in the wrong order
  EXPECT_EQ(left.times(), 1U);
  nopspan_scope_leave(inner);
  nopspan_scope_leave(scope);
  EXPECT_EQ(left.times(), 1U);
  EXPECT_TRUE(Context::current().empty());
  nopspan_scope_leave({nullptr, 0});
}

TEST(CApi, TheContextOfASpanThatIsNotRecordedIsThatOfItsCaller) {
  const nopspan_context request = nopspan_context_from(kOfCaller);
  const nopspan_context forwarded = nopspan_span_context_or(nopspan_none(), &request);
  EXPECT_EQ(std::memcmp(&forwarded, &request, sizeof(request)), 0);
  const nopspan_context unknown = nopspan_span_context(nopspan_none());
  EXPECT_TRUE(nopspan_context_is_empty(&unknown));
  const SpanRecorder recorder("c.child");
  nopspan_span_end(nopspan_span_begin_in("c.child", &unknown));
  EXPECT_TRUE(recorder.stop()->is_orphan());
}

// ---- The process ----

TEST(CApi, StatsAreThoseOfTheLibrary) {
  nopspan_stats all;
  std::memset(&all, 0xff, sizeof(all));
  nopspan_stats_read(&all, sizeof(all));
  const Stats stats = nopspan::stats();
  EXPECT_EQ(std::memcmp(&all, &stats, sizeof(all)), 0);
  static_assert(offsetof(nopspan_stats, calls_invalid) == offsetof(Stats, calls_invalid));
  static_assert(offsetof(nopspan_stats, values_clamped) == offsetof(Stats, values_clamped));

  all.reentrant = 7;
  nopspan_stats_read(&all, sizeof(all.spans_dropped));  // an older program's struct
  EXPECT_EQ(all.reentrant, 7U);
  struct {
    nopspan_stats known;
    std::uint64_t later;
  } newer = {{}, 7};
  nopspan_stats_read(&newer.known, sizeof(newer));
  EXPECT_EQ(newer.later, 0U);
  nopspan_stats_read(nullptr, sizeof(all));
}

TEST(CApi, SwitchesAreThoseOfTheLibrary) {
  EXPECT_TRUE(nopspan_prepare(1, true));
  nopspan_reseed();
  EXPECT_FALSE(nopspan_enabled());
  nopspan_keep_open_spans(true);
  EXPECT_TRUE(nopspan_enabled());
  const nopspan_handle span = nopspan_span_begin("c.open", nopspan_none());
  EXPECT_TRUE(nopspan_is_recorded(span));
  nopspan_span_end(span);
  nopspan_keep_open_spans(false);
  const std::uint64_t before = nopspan_now_ns();
  EXPECT_GE(nopspan::now_ns(), before);
  nopspan_capture_content(NOPSPAN_CONTENT_NONE);
  nopspan_end_open_spans(nullptr);
}

// ---- Misuse ----

class CApiMisuse : public testing::TestWithParam<const c_program*> {
 protected:
  [[nodiscard]] const c_program& program() const { return *GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(InBothLanguages, CApiMisuse, testing::Values(&program_in_c, &program_in_cxx));

TEST_P(CApiMisuse, WhatIsNotRecordedDoesNothing) {
  const auto grown = counted([&] {
    const nopspan_handle span = program().begin();
    EXPECT_FALSE(nopspan_is_recorded(span));
    EXPECT_EQ(span.check, 0U);
    const Recorder recorder(kAll);  // raises the gate between begin and end
    program().use(span);
    program().end(span);
    program().end(span);
    EXPECT_EQ(recorder.size(), 0U);
  });
  EXPECT_THAT(grown, testing::Each(0U));
}

TEST_P(CApiMisuse, ASpanThatBeganWhileTheGateWasRaisedMayEndAfterwards) {
  nopspan_handle span = nopspan_none();
  {
    const Recorder recorder(kAll);
    span = program().begin();
  }
  EXPECT_TRUE(nopspan_is_recorded(span));
  const auto grown = counted([&] {
    program().use(span);
    program().end(span);
  });
  EXPECT_THAT(grown, testing::Each(0U));
}

TEST_P(CApiMisuse, ASecondEndIsCounted) {
  const SpanRecorder recorder("c.span");
  const Counted invalid(&Stats::calls_invalid);
  const nopspan_handle span = program().begin();
  program().end(span);
  program().end(span);
  program().use(span);
  nopspan_span_fail(span, "late");
  nopspan_span_start(span);
  nopspan_span_end(nopspan_span_begin("c.child", span));
  const int64_t integer = 1;
  nopspan_span_set_ints(span, "ints", &integer, static_cast<size_t>(-1));  // a call is counted once
  EXPECT_EQ(invalid.times(), 8U);
  EXPECT_EQ(recorder.size(), 2U);
  EXPECT_THAT(recorder.stop(), AllOf(HasStatus(Status::ok), LacksMetadata("n"), LacksMetadata("input_tokens")));
}

TEST_P(CApiMisuse, AnOldHandleDoesNotReachALaterSpan) {
  const Recorder recorder{"c.later.stop", "c.event"};
  std::vector<nopspan_handle> old;
  for (int i = 0; i < 100; ++i) old.push_back(program().begin());
  for (const nopspan_handle& span : old) program().end(span);
  const Counted invalid(&Stats::calls_invalid);
  // These use the same states again.
  AsyncSpan later[50];
  for (AsyncSpan& span : later) span = AsyncSpan{"c.later"};
  for (int i = 0; i < 50; ++i) {
    const nopspan_handle event = nopspan_event_begin("c.event", nopspan_none());
    for (const nopspan_handle& span : old) program().end(span);
    nopspan_span_end(event);
  }
  for (AsyncSpan& span : later) span.end();
  EXPECT_EQ(invalid.times(), 50U * 100U);
  EXPECT_EQ(recorder.size(), 100U);
}

TEST_P(CApiMisuse, ASpanMayEndOnAnotherThread) {
  const SpanRecorder recorder("c.span");
  const Counted invalid(&Stats::calls_invalid);
  const nopspan_handle span = program().begin();
  in_thread([&]() -> void* {
    program().use(span);
    program().end(span);
    return nullptr;
  });
  EXPECT_EQ(invalid.times(), 0U);
  EXPECT_THAT(recorder.stop(), HasMetadata("n", 1));
  program().end(span);
  EXPECT_EQ(invalid.times(), 1U);
}

TEST_P(CApiMisuse, OneOfTwoThreadsEndsASpan) {
  constexpr int kSpans = 500;
  const Recorder recorder{"c.span.stop"};
  const Counted invalid(&Stats::calls_invalid);
  std::vector<nopspan_handle> spans;
  for (int i = 0; i < kSpans; ++i) spans.push_back(program().begin());
  in_threads(2, [&](int) {
    for (const nopspan_handle& span : spans) program().end(span);
  });
  EXPECT_EQ(recorder.size(), std::size_t{kSpans});
  EXPECT_EQ(invalid.times(), std::uint64_t{kSpans});
}

TEST_P(CApiMisuse, ASpanFromBeforeForkIsTheParents) {
  const SpanRecorder recorder("c.span");
  const nopspan_handle span = program().begin();
  const nopspan_handle event = nopspan_event_begin("c.event", span);
  const nopspan_handle gauge = nopspan_gauge_begin();
  expect_in_child([&] {
    program().use(span);
    program().end(span);
    nopspan_span_end(event);
    nopspan_gauge_end(gauge, "waiting", 1);
    EXPECT_EQ(nopspan::stats().inherited, 3U);
    EXPECT_EQ(nopspan::stats().calls_invalid, 0U);
    EXPECT_EQ(recorder.size(), 1U);
    program().end(span);
    EXPECT_EQ(nopspan::stats().calls_invalid, 1U);
    program().end(program().begin());
    EXPECT_EQ(recorder.size(), 3U);
  });
  program().end(span);
  nopspan_span_end(event);
  nopspan_gauge_end(gauge, "waiting", 1);
  EXPECT_EQ(recorder.size(), 2U);
}

TEST(CApiMisuse, NullNamesAndKeysAreCounted) {
  const Recorder recorder{"unnamed.stop"};
  const Counted names(&Stats::names_invalid);
  const Counted fields(&Stats::fields_dropped);
  const nopspan_handle span = nopspan_span_begin(nullptr, nopspan_none());
  nopspan_span_set_int(span, nullptr, 1);
  nopspan_span_set_text(span, "", "x");
  nopspan_span_set_texts(span, nullptr, nullptr, 3);
  nopspan_span_set_text(span, "null", nullptr);
  nopspan_span_set_texts(span, "nothing", nullptr, 3);
  nopspan_span_fail(span, nullptr);
  nopspan_span_end(nopspan_span_begin_text("text", static_cast<std::size_t>(-2), nopspan_none()));
  nopspan_span_end(nopspan_span_begin_with("", nullptr));
  nopspan_event(nullptr, nopspan_none());
  nopspan_gauge(nullptr, nullptr, 1, 2);
  nopspan_counter(nullptr, nullptr, -1);
  nopspan_retry(nopspan_none(), 1, 1, nullptr);
  nopspan_span_exception(nopspan_span_begin("c.span", nopspan_none()), nullptr, nullptr, nullptr, 3);
  EXPECT_EQ(names.times(), 4U);
  EXPECT_EQ(fields.times(), 3U);
  ASSERT_EQ(recorder.size(), 3U);
  EXPECT_THAT(recorder.events().at(0), AllOf(HasStatus(Status::error), HasMetadata("nothing", Value::list())));
}

TEST(CApiMisuse, WrongLengthsMeanNoText) {
  const SpanRecorder recorder("c.span");
  const Counted fields(&Stats::fields_dropped);
  const nopspan_handle span = nopspan_span_begin("c.span", nopspan_none());
  const auto negative = static_cast<std::size_t>(-5);
  nopspan_span_set_text_n(span, "text", "abc", negative);
  nopspan_call_set_int(span, "key", negative, 1, NOPSPAN_METADATA);
  nopspan_call_set_int(span, "key", NOPSPAN_NUL, 1, NOPSPAN_LABEL);
  nopspan_call_set_text(span, "key", 3, "x", 1, NOPSPAN_MEASUREMENT);
  nopspan_call_set_double(span, "key", 3, 1, 99);
  nopspan_span_step(span, nullptr, nullptr, 3);
  nopspan_span_end(span);
  EXPECT_EQ(fields.times(), 4U);
  EXPECT_THAT(recorder.stop(), LacksMetadata("key"));
  EXPECT_TRUE(recorder.stop()->metadata("text").is_null());
}

TEST(CApiMisuse, NegativeNumbersOfItemsMeanNone) {
  const SpanRecorder recorder("engine.step");
  const Counted invalid(&Stats::calls_invalid);
  const auto negative = static_cast<std::size_t>(-5);
  const std::int64_t integer = 1;
  const double real = 1;
  const char* const text = "a";
  const nopspan_member member = {};
  nopspan_stats stats = {};
  const nopspan_handle step = nopspan_step_begin(nopspan_none());
  nopspan_span_set_ints(step, "ints", &integer, negative);
  nopspan_span_set_doubles(step, "doubles", &real, negative);
  nopspan_span_set_texts(step, "texts", &text, negative);
  nopspan_span_step(step, nullptr, &member, negative);
  nopspan_stats_read(&stats, negative);
  nopspan_span_exception(step, "Error", "", &text, negative);
  EXPECT_EQ(invalid.times(), 6U);
  EXPECT_THAT(recorder.exception(), AllOf(HasMetadata("ints", Value::list()), HasMetadata("texts", Value::list()),
                                          HasMetadata("stacktrace", Value::list())));
}

TEST(CApi, TheStartOfARequestMayHaveItsEngineAndModel) {
  const Recorder recorder{"llm.chat.start"};
  const nopspan_handle request = nopspan_request_begin_later("llm.chat");
  nopspan_span_engine(request, "vllm");
  nopspan_span_model(request, "m");
  EXPECT_THAT(recorder.events(), IsEmpty());
  nopspan_span_start(request);
  EXPECT_THAT(recorder.events().at(0), AllOf(HasMetadata("engine", "vllm"), HasMetadata("model", "m")));
  nopspan_span_end(request);
}

TEST(CApiMisuse, StructsWithoutASizeAreIgnored) {
  const SpanRecorder recorder("engine.step");
  const Counted invalid(&Stats::calls_invalid);
  nopspan_span_options options = {};
  options.start_ns = 1;
  const nopspan_handle step = nopspan_span_begin_with("engine.step", &options);
  nopspan_step_facts facts = {};
  facts.number = 7;
  nopspan_span_step(step, &facts, nullptr, 0);
  EXPECT_EQ(invalid.times(), 2U);
  facts.size = offsetof(nopspan_step_facts, batch_size);  // that of an older program
  facts.batch_size = 3;
  nopspan_span_step(step, &facts, nullptr, 0);
  nopspan_span_end(step);
  EXPECT_EQ(invalid.times(), 2U);
  ASSERT_NE(recorder.stop()->step(), nullptr);
  EXPECT_EQ(recorder.stop()->step()->number, 7U);
  EXPECT_EQ(recorder.stop()->step()->batch_size, 0U);
  EXPECT_LT(recorder.stop()->duration_ns(), std::int64_t{60'000'000'000});
}

TEST(CApiMisuse, CallsThatDoNotApplyToAnEventAreCounted) {
  const Recorder recorder{"c.event", "engine.stats"};
  const Counted invalid(&Stats::calls_invalid);
  nopspan_handle event = nopspan_event_begin("c.event", nopspan_none());
  nopspan_span_first_token(event);
  nopspan_span_link(event, nullptr);
  nopspan_span_end_at(event, 1);
  nopspan_span_start(event);
  nopspan_span_complete(event, 1);
  nopspan_gauge_end(event, "waiting", 1);
  nopspan_span_end(nopspan_span_begin("c.child", event));
  EXPECT_EQ(invalid.times(), 7U);
  EXPECT_EQ(recorder.size(), 0U);
  nopspan_span_fail(event, "failed");  // emits it
  EXPECT_EQ(invalid.times(), 8U);
  EXPECT_EQ(recorder.size(), 1U);
  nopspan_span_end(nopspan_gauge_begin());
  EXPECT_EQ(invalid.times(), 9U);
  EXPECT_EQ(recorder.size(), 1U);
}

TEST(CApi, SpansOfCataloguesFeedOtherProbes) {
  const RaisedGate raised(RaisedGate::points);
  for (const char* const name : {"llm.chat", "engine.request", "agent.tool"}) {
    const nopspan_handle span = nopspan_span_begin(name, nopspan_none());
    EXPECT_TRUE(nopspan_is_recorded(span)) << name;
    nopspan_span_end(span);
  }
  const nopspan_handle other = nopspan_span_begin("c.span", nopspan_none());
  EXPECT_FALSE(nopspan_is_recorded(other));
}

TEST(CApi, NamesThatAreMadeAtRunTimeAreInTheTable) {
  expect_in_child([] {
    const Recorder recorder(kAll);
    for (int i = 0; i < 5000; ++i) {
      const std::string name = "c.n" + std::to_string(i);
      nopspan_span_end(nopspan_span_begin(name.c_str(), nopspan_none()));
    }
    EXPECT_GT(nopspan::stats().names_overflow, 0U);
  });
}

}  // namespace
