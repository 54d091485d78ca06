// SPDX-License-Identifier: Apache-2.0
// Content is known by its key, whichever API sets it. Handlers receive it marked, and probes do not receive what is
// marked (batch_test.cpp).
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/c.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai_spans.h>
#include <nopspan/llm.h>
#include <nopspan/mcp.h>
#include <nopspan/probes.h>
#include <nopspan/propagation.h>

#include <map>

namespace {

namespace llm = nopspan::llm;

// What docs/genai.md marks, under the names that OpenTelemetry's and nopspan's attributes have.
constexpr const char* kNames[] = {"gen_ai.input.messages",
                                  "gen_ai.output.messages",
                                  "gen_ai.system_instructions",
                                  "gen_ai.tool.definitions",
                                  "gen_ai.tool.call.arguments",
                                  "gen_ai.tool.call.result",
                                  "gen_ai.tool.arguments",
                                  "gen_ai.retrieval.query.text",
                                  "gen_ai.retrieval.documents",
                                  "gen_ai.memory.query.text",
                                  "gen_ai.memory.records",
                                  "gen_ai.evaluation.explanation",
                                  "gen_ai.prompt",
                                  "gen_ai.completion",
                                  "gen_ai.prompt.0.content",
                                  "gen_ai.completion.12.role",
                                  "gen_ai.event.content",
                                  "exception.message",
                                  "exception.stacktrace",
                                  "error.message",
                                  "otel.status_description",
                                  "nopspan.response",
                                  "nopspan.step_result",
                                  "nopspan.chat_result",
                                  "nopspan.error",
                                  "nopspan.error.message",
                                  "nopspan.stacktrace",
                                  "nopspan.result",
                                  "nopspan.intent",
                                  "nopspan.thought",
                                  "nopspan.code",
                                  "nopspan.message",
                                  "nopspan.reason",
                                  "nopspan.notification",
                                  "nopspan.insight"};

// The attributes of an event that are content.
std::vector<std::string> content_of(const nopspan::OwnedEvent& event) {
  std::vector<std::string> keys;
  event->attributes().for_each([&](std::string_view key, const nopspan::ValueView& value) {
    if (value.is_content()) keys.emplace_back(key);
  });
  return keys;
}

template <class Emit>
std::vector<std::string> content_of(const char* event, const Emit& emit) {
  const Recorder recorder{event};
  emit();
  return content_of(recorder.events().at(0));
}

TEST(Content, IsKnownByItsNameOnEverySpan) {
  for (const char* name : kNames) {
    const auto is_content = [&](const auto& value) {
      return content_of("work.stop", [&] { Span{"work"}.set(name, value); }) == std::vector<std::string>{name};
    };
    EXPECT_TRUE(is_content("text")) << name;
    EXPECT_TRUE(is_content(std::string(300, 'x'))) << name;
    EXPECT_TRUE(is_content(7)) << name;
    EXPECT_TRUE(is_content(-7)) << name;
    EXPECT_TRUE(is_content(0.5)) << name;
    EXPECT_TRUE(is_content(true)) << name;
    EXPECT_TRUE(is_content(Value::map({{"content", "text"}}))) << name;
    EXPECT_TRUE(is_content(std::vector<std::string>{"text"})) << name;
  }
}

TEST(Content, IsNotEveryNameThatBeginsLikeContent) {
  EXPECT_THAT(content_of("work.stop",
                         [] {
                           Span span{"work"};
                           for (const char* name :
                                {"gen_ai.prompt.name", "gen_ai.prompt.version", "gen_ai.request.model", "error.type",
                                 "exception.type", "exception.escaped", "otel.status_code", "nopspan.tool_calls",
                                 "gen_ai.completion.tokens", "gen_ai.tool.call.id", "messages", "content", "result"}) {
                             span.set(name, "text");
                           }
                         }),
              IsEmpty());
}

TEST(Content, IsKnownByItsNameOnSpansOfCataloguesToo) {
  EXPECT_THAT(
      content_of("llm.chat.stop", [] { Span{llm::chat}.set("gen_ai.input.messages", "p").set("content", "c"); }),
      ElementsAre("gen_ai.input.messages", "content"));
}

TEST(Content, IsKnownByItsNameInEveryEvent) {
  const auto fill = [](Fields& f) { f.set("exception.message", "m").set("exception.type", "E"); };
  EXPECT_THAT(content_of("exception", [&] { Span{"work"}.event("exception", fill); }),
              ElementsAre("exception.message"));
  EXPECT_THAT(content_of("app.event", [&] { nopspan::execute("app.event", fill); }), ElementsAre("exception.message"));
  EXPECT_THAT(content_of("gen_ai.user.message",
                         [] {
                           Span{"work"}.event("gen_ai.user.message",
                                              [](Fields& f) { f.set("content", "c").set("role", "user"); });
                         }),
              ElementsAre("content"));
  EXPECT_THAT(
      content_of("gen_ai.choice", [] { nopspan::execute("gen_ai.choice", [](Fields& f) { f.set("message", "m"); }); }),
      ElementsAre("message"));
}

// A mistyped name must not publish a prompt.
TEST(Content, IsKnownByItsKeyUnderANameThatACatalogueDoesNotHave) {
  const auto content_under = [](const nopspan::Name& name) {
    const std::string event = std::string(name.view()) + ".stop";
    return content_of(event.c_str(), [&] {
      Span span{name};
      for (const char* key : {"arguments", "content", "input_messages", "reason", "result", "thought", "row"})
        span.set(key, "text");
    });
  };
  EXPECT_THAT(content_under("llm.caht"), ElementsAre("arguments", "content", "input_messages", "reason"));
  EXPECT_THAT(content_under("gen_ai.user.message"), ElementsAre("arguments", "content", "input_messages", "reason"));
  EXPECT_THAT(content_under("agent.operator.think"),
              ElementsAre("arguments", "input_messages", "reason", "result", "thought"));
  EXPECT_THAT(content_under("mcp.call"), ElementsAre("arguments", "content", "input_messages", "reason", "result"));
  EXPECT_THAT(content_under("engine.tune"), ElementsAre("arguments", "input_messages"));
  EXPECT_THAT(content_under("llama.chat"), IsEmpty());
  EXPECT_THAT(content_under("agents"), IsEmpty());
}

TEST(Content, IsTheListOfToolCallsOfAMessageButNotTheirNumber) {
  const auto fill = [](Fields& f) { f.set("tool_calls", "[{\"arguments\": {}}]").set("role", "assistant"); };
  for (const char* event : {"gen_ai.choice", "gen_ai.assistant.message"}) {
    EXPECT_THAT(content_of(event, [&] { Span{"work"}.event(event, fill); }), ElementsAre("nopspan.tool_calls"));
  }
  EXPECT_THAT(content_of("gen_ai.invoke_agent.stop", [] { Span{"gen_ai.invoke_agent"}.measure("tool_calls", 2); }),
              IsEmpty());
}

TEST(Content, IsWhatTheCatalogueOfAgentsMarks) {
  for (const nopspan::agent::EventDescription& event : nopspan::agent::catalogue()) {
    const std::string name(event.name.view());
    const Recorder recorder{name};
    nopspan::execute(event.name, [&](Fields& f) {
      for (const auto& field : event.metadata) f.set(field.key, "text");
    });
    const nopspan::OwnedEvent seen = recorder.events().at(0);
    for (const auto& field : event.metadata) {
      EXPECT_EQ(seen->metadata(field.key).is_content(), field.content) << name << ' ' << field.key;
    }
  }
}

TEST(Content, IsTheReasonOfAnExceptionButNotThatOfARetryOrOfAnEngine) {
  const auto has_content = [](const char* event, const nopspan::Name& span) {
    return !content_of(event, [&] { Span{span}.set("reason", "text"); }).empty();
  };
  EXPECT_TRUE(has_content("llm.chat.stop", llm::chat));
  EXPECT_TRUE(has_content("agent.llm.stop", nopspan::agent::llm));
  EXPECT_TRUE(has_content("gen_ai.retrieval.stop", nopspan::genai::retrieval));
  EXPECT_TRUE(has_content("mcp.client.stop", nopspan::mcp::client));
  EXPECT_FALSE(has_content("engine.prefill.stop", nopspan::engine::prefill));
  EXPECT_FALSE(has_content("work.stop", "work"));
  for (const char* retry : {"llm.adapter.retry", "gen_ai.retry"}) {
    EXPECT_THAT(content_of(retry, [&] { nopspan::execute(retry, [](Fields& f) { f.set("reason", "text"); }); }),
                IsEmpty());
  }
}

TEST(Content, IsKnownByItsNameInC) {
  EXPECT_THAT(content_of("work.stop",
                         [] {
                           const nopspan_handle span = nopspan_request_begin("work");
                           nopspan_span_set_text(span, "gen_ai.output.messages", "secret");
                           nopspan_span_end(span);
                         }),
              ElementsAre("gen_ai.output.messages"));
}

// Capture may be off when the span ends, and labels and ids reach other spans and processes.
TEST(Content, DoesNotBecomeALabelOrAnIdWhileItIsCaptured) {
  const Recorder recorder{"work.start"};
  nopspan::capture_content(true);
  Span span{"work", [](Fields& f) {
              f.content("tenant", "secret").content("model", "secret").content("request_id", "secret");
            }};
  nopspan::capture_content(false);
  EXPECT_EQ(span.context().label("tenant").view(), "");
  EXPECT_EQ(span.context().label("model").view(), "");
  EXPECT_NE(span.context().request_id().view(), "secret");
}

TEST(Content, DoesNotBecomeALabelOfAGauge) {
  const Counted overflow(&nopspan::Stats::labels_overflow);
  const Recorder recorder{"engine.stats"};
  nopspan::gauge("tokens{gen_ai.prompt=secret}", 7);
  EXPECT_FALSE(recorder.events().at(0)->metadata().find("gen_ai.prompt").exists());
  EXPECT_THAT(recorder.events().at(0), HasMeasurement("tokens", 7));
  EXPECT_EQ(overflow.times(), 1U);
}

// Without a sink, messages are kept where tracers read them.
TEST(Content, IsNotKeptInTheLog) {
  attach_ok("throws", "work.stop", [](const Event&) { throw std::runtime_error("secret"); });
  static_cast<void>(Span{"work"});
  const auto& page = *reinterpret_cast<const nopspan_gate_page*>(nopspan_gate_ptr);
  const auto* const kept = reinterpret_cast<const nopspan_warning*>(page.warnings);
  std::string all;
  for (unsigned i = 0; i < page.warnings_count; ++i) all.append(kept[i].text, kept[i].size);
  EXPECT_THAT(all, HasSubstr("has been detached: error std::runtime_error"));
  EXPECT_THAT(all, Not(HasSubstr("secret")));
}

TEST(Content, DoesNotBecomeALabel) {
  const Recorder recorder{"work.*"};
  const Counted overflow(&nopspan::Stats::labels_overflow);
  Span outer{"work"};
  outer.label("gen_ai.input.messages", "secret");
  EXPECT_FALSE(nopspan::declare_label("gen_ai.prompt"));
  const Context context = outer.context().with_label("gen_ai.prompt", "secret");
  EXPECT_EQ(context.label("gen_ai.prompt").view(), "");
  std::map<std::string, std::string> headers;
  nopspan::inject(context, headers);
  EXPECT_EQ(headers.count("baggage"), 0U);
  AsyncSpan{"work", context}.end();
  EXPECT_THAT(content_of(recorder.events().back()), IsEmpty()) << "a child inherits no content";
  EXPECT_FALSE(recorder.events().back()->attributes().find("gen_ai.input.messages").exists());
  EXPECT_EQ(overflow.times(), 3U);
}

}  // namespace
