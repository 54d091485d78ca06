// SPDX-License-Identifier: Apache-2.0
// A fact has two names: the key of a setter ("input_tokens") and the attribute of OpenTelemetry's conventions
// ("gen_ai.usage.input_tokens"). On a span of the application's own, both set the same parts of the record, the status
// and the cost. The attribute keeps its name.
#include "plain_span.h"
#include "recorded.h"

#include "genai/span_attributes.h"

#include <nopspan/genai.h>
#include <nopspan/llm.h>

#include <tuple>

namespace {

namespace llm = nopspan::llm;
using nopspan::detail::FieldSink;

std::string label_of(const FieldSink& sink, nopspan::detail::ContextAccess::Label which) {
  return std::string(nopspan::detail::label(sink.context.labels[which]).view());
}

auto facts_of(const FieldSink& sink) {
  using nopspan::detail::ContextAccess;
  return std::make_tuple(sink.input_tokens, sink.output_tokens, sink.cached_tokens, sink.reasoning_tokens,
                         sink.usage_keys, sink.flags, sink.has_tool, std::string(sink.has_tool ? sink.tool_name : ""),
                         label_of(sink, ContextAccess::model), sink.context.provider);
}

// The pairs of names whose facts are in the record.
constexpr std::pair<const char*, const char*> kNumbers[] = {
    {"gen_ai.usage.input_tokens", "input_tokens"},
    {"gen_ai.usage.output_tokens", "output_tokens"},
    {"gen_ai.usage.cache_read.input_tokens", "cached_tokens"},
    {"gen_ai.usage.reasoning.output_tokens", "reasoning_tokens"}};
constexpr std::pair<const char*, const char*> kTexts[] = {
    {"gen_ai.request.model", "model"}, {"gen_ai.tool.name", "tool_name"}, {"gen_ai.provider.name", "provider"}};

TEST(Facts, HaveTwoNamesOnEverySpan) {
  for (const auto& [attribute, key] : kNumbers) {
    PlainSpan by_name, by_key;
    nopspan::Fields(&by_name).set(attribute, 7);
    nopspan::Fields(&by_key).set(key, 7);
    EXPECT_EQ(facts_of(by_name), facts_of(by_key)) << attribute;
    EXPECT_NE(by_name.usage_keys, 0);
    nopspan::Fields(&by_name).set(attribute, nullptr);
    EXPECT_EQ(by_name.usage_keys, 0);
    EXPECT_EQ(by_name.fields.find(key, false), nullptr) << "the attribute keeps its name";
  }
  for (const auto& [attribute, key] : kTexts) {
    PlainSpan by_name, by_key;
    nopspan::Fields(&by_name).set(attribute, "text");
    nopspan::Fields(&by_key).set(key, "text");
    EXPECT_EQ(facts_of(by_name), facts_of(by_key)) << attribute;
    EXPECT_NE(by_name.fields.find(attribute, false), nullptr);
    nopspan::Fields(&by_name).content(attribute, "secret");
    EXPECT_EQ(facts_of(by_name), facts_of(PlainSpan())) << "content sets no fact";
  }
}

TEST(Facts, OfAnEventAreThoseOfItsKeysOnly) {
  PlainSpan event;
  event.is_span = false;
  nopspan::Fields(&event).set("gen_ai.usage.input_tokens", 7).set("gen_ai.request.model", "m");
  EXPECT_EQ(event.usage_keys, 0);
  EXPECT_EQ(label_of(event, nopspan::detail::ContextAccess::model), "");
}

template <class Fill>
nopspan::OwnedEvent end_of_work(const Fill& fill) {
  const Recorder recorder{"work.stop"};
  { const Span span{"work", fill}; }
  return recorder.events().at(0);
}
nopspan::OwnedEvent end_of_chat(const char* key, const Value& value) {
  return end_of_work([&](Fields& f) { f.set(key, value).set("gen_ai.operation.name", "chat"); });
}

TEST(Facts, DecideTheStatusOfAnOperation) {
  const auto has_failed = [](const nopspan::OwnedEvent& event) { return event->status() == Status::error; };
  EXPECT_TRUE(has_failed(end_of_chat("error.type", "timeout")));
  EXPECT_TRUE(has_failed(end_of_chat("http.response.status_code", 503)));
  EXPECT_TRUE(has_failed(end_of_chat("gen_ai.response.finish_reasons", Value::list({"error"}))));
  EXPECT_FALSE(has_failed(end_of_chat("gen_ai.response.finish_reasons", Value::list({"error", "stop"}))));
  EXPECT_FALSE(has_failed(end_of_chat("http.response.status_code", 200)));
  EXPECT_FALSE(has_failed(end_of_work([](Fields& f) { f.set("error.type", "timeout"); }))) << "it is no operation";
  const auto declared = end_of_work([](Fields& f) {
    f.set("gen_ai.operation.name", "chat").set("error.type", "timeout").set("otel.status_code", "OK");
  });
  EXPECT_FALSE(has_failed(declared));
  EXPECT_EQ(end_of_chat("http.response.status_code", 503)->attributes().find("error.type").as_string(), "503");
  EXPECT_EQ(end_of_chat("error.type", "timeout")->attributes().find("error.type").as_string(), "timeout");
}

TEST(Facts, OfAnOperationAreBesideItsContent) {
  const auto chat = end_of_chat("gen_ai.input.messages", "secret");
  EXPECT_TRUE(chat->attributes().find("gen_ai.input.messages").is_content());
}

TEST(Facts, AreThePriceOfAnOperation) {
  nopspan::genai::PriceTable prices;
  std::string error;
  ASSERT_TRUE(prices.parse(R"({"models": {"m": {"input": 1, "output": 2}}, "unit": "per_token"})", error)) << error;
  nopspan::genai::set_prices(prices);
  const auto fill = [](Fields& f) {
    f.set("gen_ai.request.model", "m").set("gen_ai.usage.input_tokens", 3).set("gen_ai.usage.output_tokens", 4);
    f.set("gen_ai.operation.name", "chat");
  };
  EXPECT_EQ(end_of_work(fill)->attributes().find("gen_ai.usage.cost").as_double(), 11.0);
  const auto own = end_of_work([&](Fields& f) {
    fill(f);
    f.set("gen_ai.usage.cost", 0.5);
  });
  EXPECT_EQ(own->attributes().find("gen_ai.usage.cost").as_double(), 0.5);
  nopspan::genai::set_prices({});
}

// An engine's provider is that of the requests that it passes on.
TEST(Facts, IncludeTheProviderOfTheEngineAround) {
  const Recorder recorder{"llm.generate.stop"};
  const auto provider = [&] {
    return std::string(recorder.events().back()->attributes().find("gen_ai.provider.name").as_string());
  };
  const Span chat{llm::chat, [](auto& m) { m.engine("router").provider("google"); }};
  { const Span inner{llm::generate}; }
  EXPECT_EQ(provider(), "gcp.gen_ai");
  { const AsyncSpan inner{llm::generate, chat.context()}; }
  EXPECT_EQ(provider(), "gcp.gen_ai");
  {
    const Span inner{llm::generate, [](auto& m) { m.engine("vllm"); }};
  }
  EXPECT_EQ(provider(), "vllm");
  {
    const Span inner{llm::generate, [](auto& m) { m.provider("openai").engine("vllm"); }};
  }
  EXPECT_EQ(provider(), "openai");
}

TEST(Facts, OfAnExceptionIncludeAnEmptyStackTrace) {
  const Recorder recorder{"llm.step.exception"};
  EXPECT_THROW(nopspan::span(llm::step, [] { throw std::runtime_error("x"); }), std::runtime_error);
  const std::vector<nopspan::OwnedEvent> events = recorder.events();
  const nopspan::ValueView frames = events.at(0)->metadata("stacktrace");
  EXPECT_TRUE(frames.exists() && frames.type() == Value::Type::list && frames.copy().as_list().empty());
}

// The event of a retry or a first token belongs to the span that it was given, on whatever thread that is.
TEST(Facts, OfEventsAreThoseOfTheSpanThatTheyWereGiven) {
  const Recorder recorder{"gen_ai.stream.first_token"};
  AsyncSpan span{"chat m"};
  nopspan::genai::stream_first_token(span, [](auto& e) { e.tokens_so_far(3); });
  EXPECT_TRUE(recorder.events().at(0)->measurements().find("time_to_first_token").exists());
  nopspan::genai::stream_first_token(span);
  span.end();
}

}  // namespace
