// SPDX-License-Identifier: Apache-2.0
// A program that is compiled with -fno-exceptions -fno-rtti.
#include "expect.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/coroutine.h>
#include <nopspan/engine.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/fields.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>
#include <nopspan/testing.h>
#include <nopspan/types.h>
#include <nopspan/version.h>

#include <memory>
#include <string>
#include <vector>

#if defined(__cpp_exceptions) || defined(__cpp_rtti)
#error "this test is to be compiled with -fno-exceptions -fno-rtti"
#endif
static_assert(NOPSPAN_EXCEPTIONS == 0);

namespace {

// std::stoi is a function of a file with exceptions.
int number_of(const std::string& text) { return std::stoi(text); }
enum class Unprintable { item };
std::string to_string(Unprintable) { return std::to_string(number_of("")); }

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::Fields;
using nopspan::Span;
using nopspan::Value;
using nopspan::testing::Recorder;

void spans_emit_start_and_stop() {
  const Recorder recorder(Recorder::span_events({"work"}));
  {
    Span span{"work", [](Fields& f) { f.set("at", "start").measure("depth", 1); }};
    span.set("at", "stop").set("list", std::vector<int>{1, 2}).with([](Fields& f) { f.measure("rows", 2); });
  }
  const auto events = recorder.events();
  EXPECT(events.size() == 2);
  EXPECT(events[0]->metadata("at").as_string() == "start");
  EXPECT(events[1]->metadata("at").as_string() == "stop");
  EXPECT(events[1]->measurement("rows").as_int() == 2);
  EXPECT(!events[1]->measurement("depth").exists());
}

void closures_return_what_the_work_returns() {
  const Recorder recorder(Recorder::span_events({"work", "llm.chat"}));
  int target = 0;
  EXPECT(nopspan::span("work", [] { return 7; }) == 7);
  EXPECT(&nopspan::span("work", [&](Span&) -> int& { return target; }) == &target);
  EXPECT(*nopspan::span("work", [] { return std::make_unique<int>(8); }) == 8);
  EXPECT(nopspan::span("work", [] { return nopspan::result(9, [](Fields& f) { f.set("nine", 9); }); }) == 9);
  nopspan::span(
      nopspan::llm::chat, [](auto& m) { m.model("small"); }, [] {});
  EXPECT(recorder.events("work.stop").size() == 4);
  EXPECT(recorder.events("work.stop")[3]->metadata("nine").as_int() == 9);
  EXPECT(recorder.events("llm.chat.start")[0]->metadata("model").as_string() == "small");
}

void async_spans_end_and_are_abandoned() {
  const Recorder recorder{"work.stop"};
  AsyncSpan ended{"work", Context(), [](Fields& f) { f.set("k", 1); }};
  ended.end();
  { const AsyncSpan abandoned{"work"}; }
  AsyncSpan failed{"work"};
  failed.fail("timeout");
  nopspan::complete("work", Context(), 1000, 5, [](Fields&) {});
  const auto events = recorder.events();
  EXPECT(events.size() == 4);
  EXPECT(events[0]->status() == nopspan::Status::ok);
  EXPECT(events[1]->status() == nopspan::Status::cancelled);
  EXPECT(events[2]->status() == nopspan::Status::error);
  EXPECT(events[3]->duration_ns() == 5);
}

void events_are_emitted() {
  const Recorder recorder{"cache.hit", "llm.adapter.retry", "engine.stats"};
  nopspan::execute("cache.hit", [](Fields& f) { f.set("map", Value::map({{"a", 1}})); });
  nopspan::llm::retry([](auto& r) { r.attempt(2).delay_ms(5); });
  nopspan::gauge("running", 3);
  EXPECT(recorder.size() == 3);
  EXPECT(recorder.events()[0]->metadata("map").find("a").as_int() == 1);
}

void catalogue_names_are_error_values() {
  EXPECT(nopspan::llm::has_span("chat"));
  EXPECT(!nopspan::llm::has_span("chats"));
}

void agents_emit() {
  namespace agent = nopspan::agent;
  const Recorder recorder(agent::event_names());
  agent::operators::think([](auto& e) { e.operator_name("ets").thought("hm"); });
  EXPECT(agent::tool_span([](auto& m) { m.tool_name("x"); }, [] { return 7; }) == 7);
  EXPECT(*agent::tool_span(Value::map(), [] { return std::make_unique<int>(8); }) == 8);
  EXPECT(agent::emit("agent.operator.done", Value::map(), Value::map()) == nopspan::Errc::ok);
  EXPECT(agent::emit("agent.nonsense", Value::map(), Value::map()) == nopspan::Errc::invalid_argument);
  EXPECT(agent::emit_tool_stop(Value::map(), 1, 1) == nopspan::Errc::ok);
  EXPECT(recorder.size() == 7);
  EXPECT(recorder.events("agent.tool.stop")[0]->metadata("result").as_int() == 7);
}

void streams_end() {
  const Recorder recorder{"llm.stream.stop", "work.stop", "engine.stats"};
  int left = 2;
  auto pulled = nopspan::llm::pull_stream([](auto& m) { m.model("m"); }, [&] { return left-- > 0 ? &left : nullptr; });
  while (pulled.next() != nullptr) {
  }
  const int items[] = {1, 2, 3};
  for (const int item : nopspan::llm::stream_range(items)) EXPECT(item > 0);
  auto pushed = nopspan::llm::push_stream([](int) {});
  pushed(1);
  pushed.fail("timeout");
  nopspan::StreamMeter meter{AsyncSpan{"work"}};
  meter.token();
  meter.end();
  nopspan::engine::stats([](auto& s) { s.running(1); });
  const auto events = recorder.events();
  EXPECT(events.size() == 5);
  EXPECT(events[0]->measurement("stream_tokens").as_int() == 2);
  EXPECT(events[1]->measurement("stream_tokens").as_int() == 3);
  EXPECT(events[2]->status() == nopspan::Status::error);
  EXPECT(events[3]->measurement("stream_tokens").as_int() == 1);
}

void contexts_travel() {
  const nopspan::ContextScope here{Context::with_request_id("order-7")};
  EXPECT(nopspan::request_id() == "order-7");
  const std::string id = Context::current().request_id();
  EXPECT(id == "order-7");
}

void nothing_is_evaluated_when_the_gate_is_down() {
  bool called = false;
  const Span span{"work", [&](Fields&) { called = true; }};
  nopspan::execute("cache.hit", [&](Fields&) { called = true; });
  EXPECT(!called);
  EXPECT(nopspan::list_handlers().empty());
}

void exceptions_of_other_files_are_counted() {
  const Recorder recorder{"work.stop"};
  const auto failures_before = nopspan::stats().metadata_failures;
  {
    Span span{"work"};
    span.with([](Fields& f) { f.set("number", number_of("x")); });
    span.set("list", std::vector<Unprintable>{Unprintable::item});
  }
  EXPECT(nopspan::stats().metadata_failures == failures_before + 2);
  EXPECT(recorder.size() == 1);
}

}  // namespace

int main() {
  spans_emit_start_and_stop();
  closures_return_what_the_work_returns();
  async_spans_end_and_are_abandoned();
  events_are_emitted();
  catalogue_names_are_error_values();
  agents_emit();
  streams_end();
  contexts_travel();
  exceptions_of_other_files_are_counted();
  nothing_is_evaluated_when_the_gate_is_down();
  return failures == 0 ? 0 : 1;
}
