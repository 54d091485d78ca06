// SPDX-License-Identifier: Apache-2.0
// Calls whose meaning must not depend on the handlers and tracers that are attached. Each event has the ids of its
// span, as the program knows them, as the metadata `at` (the span), `under` (its parent) and `of` (the request).
//
// Takes commands (commands.h), and `canary ID`:
//
//   handle EVENT...  attaches one handler to these events
//   run              makes all calls
//   handled          the events that the handler received, as JSON; detaches it
//   throw            ends a span of a catalogue, and another one, with an exception
#include "canary.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdint>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace llm = nopspan::llm;
using nopspan::Context;
using nopspan::Fields;
using nopspan::Value;

Value::List handled;

std::string hex(std::uint64_t id) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(id));
  return text;
}

void note(const nopspan::Event& event) {
  Value attributes = Value::map();
  event.attributes().for_each([&](std::string_view key, nopspan::ValueView value) {
    if (!value.is_content()) attributes.set(key, value.copy());
  });
  handled.push_back(Value::map({{"event", event.name()},
                                {"request_id", event.request_id()},
                                {"span_id", hex(event.span_id())},
                                {"parent_id", hex(event.parent_id())},
                                {"status", static_cast<std::int64_t>(event.status())},
                                {"error_type", event.metadata("error.type").as_string("")},
                                {"attributes", attributes}}));
}

// Sets where an event is.
auto place(const Context& span, const Context& parent) {
  return [=](Fields& f) {
    f.set("at", hex(span.span_id())).set("under", hex(parent.span_id())).set("of", span.request_id().view());
  };
}

void emit_events(const Context& here, const Context& parent) {
  const auto placed = place(here, parent);
  nopspan::execute("cache.hit", placed);
  nopspan::genai::prompt_sent(placed);
  nopspan::agent::operators::think(placed);
  nopspan::execute("fragile", placed);  // its handler throws
  llm::retry([&](auto& r) {
    placed(r);
    r.attempt(1).delay_ms(500).reason("timeout").status_code(503);
  });
  llm::execute("adapter.retry", [&](Fields& f) {
    placed(f);
    f.set("attempt", 2).set("delay_ms", 500).set("reason", "timeout").set("status_code", 503);
  });
  nopspan::genai::retry(3, [&](auto& e) {
    placed(e);
    e.delay_ms(500).reason("timeout").status_code(503);
  });
}

void calls_with_outcomes() {
  using Set = void (*)(nopspan::Span&);
  const std::pair<nopspan::SpanKind, Set> outcomes[] = {
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("http_status", 200); }},
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("http_status", 404); }},
      {nopspan::SpanKind::server, [](nopspan::Span& call) { call.set("http_status", 404); }},
      {nopspan::SpanKind::server, [](nopspan::Span& call) { call.set("http_status", 500); }},
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("finish_reason", "error"); }},
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("error", "the server is gone"); }},
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("http_status", 503).fail("rate_limit"); }},
      {nopspan::SpanKind::client, [](nopspan::Span& call) { call.set("http_status", 503).cancel("client gone"); }},
  };
  for (const auto& [kind, set] : outcomes) {
    nopspan::Span call{llm::generate, {kind}};
    set(call);
  }
}

void image_that_fails() {
  nopspan::Span image{llm::image, [](auto& m) { m.engine("easel").model("painter").n(2); }};
  image.with<llm::ImageFields>([](auto& m) { m.usage(Value::map({{"images", 2}, {"output_tokens", 9}})); });
  const nopspan::Span tool{"llm.tool", [](Fields& m) { m.set("result", "a result is content"); }};
  const nopspan::Span step{"llm.step", [](Fields& m) { m.set("result", "a field"); }};
  image.fail("no paint for the user's secret");
}

std::string run(std::istringstream&) {
  static_cast<void>(
      nopspan::attach("fragile", "fragile", [](const nopspan::Event&) { throw std::runtime_error("x"); }));
  {
    const nopspan::Span chat{llm::chat, [](auto& m) { m.request_id("order-1").model("tiny"); }};
    const nopspan::Span step{llm::step};
    emit_events(step.context(), chat.context());
    {
      const nopspan::Span tool{llm::tool, [](auto& m) { m.tool_name("find"); }};
    }
    nopspan::AsyncSpan slot{"slot", step.context()};
    slot.event("cache.miss", place(slot.context(), step.context()));
    slot.end();
  }
  {
    const nopspan::Span order{"shop.order", [](Fields& m) { m.set("request_id", "order-2"); }};
    nopspan::execute("cache.miss", place(order.context(), Context()));
    calls_with_outcomes();
    image_that_fails();
  }
  {
    const nopspan::ContextScope request{Context::with_request_id("order-3")};
    const nopspan::Span other{"shop.other", [](Fields& m) { m.request_id("order-4"); }};
    nopspan::execute("cache.miss", place(other.context(), Context()));
  }
  return "done";
}

void end_by_exception(const nopspan::Name& span) {
  try {
    nopspan::span(span, [] { throw std::runtime_error("x"); });
  } catch (const std::runtime_error&) {
  }
}

std::string throw_exceptions(std::istringstream&) {
  end_by_exception("llm.stream");
  end_by_exception("shop.parcel");
  return "done";
}

std::string handle(std::istringstream& arguments) {
  std::vector<std::string> events;
  for (std::string event = word(arguments); !event.empty(); event = word(arguments)) events.push_back(event);
  return describe(nopspan::attach_many("seen", events, note));
}

std::string take_handled(std::istringstream&) {
  static_cast<void>(nopspan::detach("seen"));
  return Value(std::exchange(handled, {})).to_string();
}

}  // namespace

int main() {
  nopspan::set_log_sink([](nopspan::LogLevel, std::string_view) {});
  return serve({{"handle", handle},
                {"run", run},
                {"handled", take_handled},
                {"throw", throw_exceptions},
                {"canary", canary_command}});
}
