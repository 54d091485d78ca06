// SPDX-License-Identifier: Apache-2.0
// The llm catalogue.
#include "recorded.h"

#include <nopspan/llm.h>

namespace {

namespace llm = nopspan::llm;

TEST(Llm, BuildersSetTheKeysOfTheirSpans) {
  const Recorder recorder{"llm.tool.start", "llm.tool.stop", "llm.image.stop", "llm.step.stop", "llm.generate.stop"};
  Span{llm::tool, [](auto& m) { m.tool_call_id("call-1").tool_name("search").engine("e").model("m"); }}
      .with<llm::ToolFields>([](auto& m) { m.result("found"); });
  Span{llm::image, [](auto& m) { m.operation("edit").n(2); }}.with<llm::ImageFields>([](auto& m) {
    m.image_count(2).usage(Value::map({{"a", 1}})).response("r").error(nullptr);
  });
  Span{llm::step}.with<llm::StepFields>(
      [](auto& m) { m.step_result("s").input_tokens(1).cached_tokens(2).reasoning_tokens(3); });
  Span{llm::generate}.with<llm::GenerateFields>([](auto& m) { m.response("text").output_tokens(9).tenant("t"); });
  const auto events = events_of(recorder, 5);
  EXPECT_THAT(events[0], AllOf(HasMetadata("tool_call_id", "call-1"), HasMetadata("tool_name", "search")));
  EXPECT_THAT(events[1], HasMetadata("result", "found"));
  EXPECT_THAT(events[2], AllOf(HasMetadata("operation", "edit"), HasMetadata("n", 2)));
  EXPECT_THAT(events[2], AllOf(HasMeasurement("image_count", 2), HasMetadata("usage", Value::map({{"a", 1}}))));
  EXPECT_THAT(events[3], AllOf(HasMetadata("step_result", "s"), HasMetadata("reasoning_tokens", 3)));
  EXPECT_THAT(events[4], AllOf(HasMetadata("response", "text"), HasMetadata("tenant", "t")));
}

TEST(Llm, SpansInsideAChatHaveItsEngineAndModel) {
  const Recorder recorder{"llm.step.start", "llm.step.stop", "llm.tool.start", "llm.tool.stop"};
  const auto chat = [](auto& m) { m.engine("vllm").model("small"); };
  nopspan::span(llm::chat, chat, [] {
    nopspan::span(llm::step, [](Span& step) {
      nopspan::span(
          llm::tool, [](auto& m) { m.model("other"); }, [] {});
      step.with<llm::StepFields>([](auto& m) { m.engine("llama.cpp"); });
    });
  });
  const auto events = events_of(recorder, 4);
  const auto expect = [](const nopspan::OwnedEvent& event, const char* engine, const char* model) {
    EXPECT_THAT(event, AllOf(HasMetadata("engine", engine), HasMetadata("model", model)));
    EXPECT_EQ(event->attributes().find("nopspan.engine").as_string(), engine);
  };
  expect(events[0], "vllm", "small");
  expect(events[1], "vllm", "other");
  expect(events[2], "vllm", "other");
  expect(events[3], "llama.cpp", "small");
  EXPECT_THAT(events[1], IsChildOf(events[0])) << "the tool is in the step";
  EXPECT_THAT(events[0], HasAttribute("gen_ai.request.model", "small"));
}

TEST(Llm, SpansWithoutAnEngineOrModelHaveNoKeysForThem) {
  const SpanRecorder recorder("llm.chat");
  nopspan::span(llm::chat, [] {});
  EXPECT_THAT(recorder.start(), AllOf(LacksMetadata("engine"), LacksMetadata("model")));
  EXPECT_THAT(recorder.start(), LacksAttribute("nopspan.engine"));
}

TEST(Llm, AnImageThatFailsHasNoImages) {
  const SpanRecorder recorder("llm.image");
  const auto attribute = [](const nopspan::OwnedEvent& event) {
    return event->attributes().find("nopspan.image_count");
  };
  { const Span done{llm::image}; }
  Span{llm::image}.fail("rate_limit");
  {
    Span partial{llm::image};
    partial.with<llm::ImageFields>([](auto& m) { m.image_count(1); });
    partial.fail("timeout");
  }
  EXPECT_THROW(nopspan::span(llm::image, [] { throw std::runtime_error("boom"); }), std::runtime_error);
  const auto stops = events_of(recorder, 3, "llm.image.stop");
  EXPECT_THAT(stops[0], LacksMeasurement("image_count"));
  EXPECT_THAT(stops[1], HasMeasurement("image_count", 0));
  EXPECT_EQ(attribute(stops[1]).as_int(-1), 0);
  EXPECT_THAT(stops[2], HasMeasurement("image_count", 1));
  EXPECT_THAT(recorder.exception(), HasMeasurement("image_count", 0));
  EXPECT_EQ(attribute(recorder.exception()).as_int(-1), 0);
}

TEST(Llm, AResponseFailsIfAllItsChoicesDo) {
  const Recorder recorder{"llm.generate.stop"};
  {
    const Span call(llm::generate, [](auto& m) { m.finish_reasons({"error", "error"}); });
  }
  {
    const Span call(llm::generate, [](auto& m) { m.finish_reasons({"error", "stop"}); });
  }
  EXPECT_THAT(recorder.events(), ElementsAre(HasStatus(Status::error), HasStatus(Status::ok)));
}

TEST(Llm, TakesItsListsAsVectors) {
  const SpanRecorder recorder("llm.chat");
  const std::vector<std::string> texts{"a", "b"};
  const Value list = Value::list({"a", "b"});
  {
    const Span call(llm::chat, [&](auto& m) { m.stop_sequences(texts).encoding_formats(texts).finish_reasons(texts); });
  }
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("stop_sequences", list), HasMetadata("encoding_formats", list)));
  EXPECT_THAT(recorder.stop(), HasMetadata("finish_reason", list));
}

TEST(Llm, EmitsAnEventWithoutFields) {
  const Recorder recorder{"llm.cache.hit"};
  const Span span{"work"};
  llm::execute("cache.hit");
  llm::execute(Context(), "cache.hit");
  const auto events = events_of(recorder, 2);
  EXPECT_EQ(events[0]->span_id(), id_of(span));
  EXPECT_EQ(events[1]->span_id(), 0U);
}

TEST(Llm, SpanOfARunTimeNameIsTheOneOfThatName) {
  const SpanRecorder recorder("llm.chat");
  EXPECT_EQ(llm::span(
                "chat", [](nopspan::Fields& f) { f.set("k", 1); }, [] { return 7; }),
            7);
  EXPECT_EQ(llm::span(std::string("chat"), [](Span&) { return 8; }), 8);
  ASSERT_THAT(recorder.events("llm.chat.stop"), SizeIs(2));
  EXPECT_THAT(recorder.start(), HasMetadata("k", 1));
}

TEST(Llm, SpanOfAnUnknownRunTimeNameThrowsBeforeTheWork) {
  for (const char* name : {"chats", "llm.chat", "", "chat ", "Chat"}) {
    bool worked = false;
    try {
      llm::span(name, [&] { worked = true; });
      ADD_FAILURE() << name << " is known";
    } catch (const std::invalid_argument& error) {
      EXPECT_EQ(std::string(error.what()),
                "unknown span name \"" + std::string(name) + "\"; valid: chat, generate, image, step, stream, tool");
    }
    EXPECT_FALSE(worked);
  }
  EXPECT_THROW(llm::span(nullptr, [] {}), std::invalid_argument);
  EXPECT_FALSE(llm::has_span("chats"));
  EXPECT_FALSE(llm::has_span(nullptr));
  EXPECT_TRUE(llm::has_span("tool"));
}

TEST(Llm, SpanOfAnUnknownRunTimeNameThrowsAMessageOfOneLine) {
  try {
    llm::span(std::string("a\nb\0c\xff", 6) + std::string(100, 'x'), [] {});
    ADD_FAILURE();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("\"a?b?c?xxx"), HasSubstr("xxx\u2026\"")));
  }
}

TEST(Llm, LiteralThatTheCatalogueDoesNotKnowIsEmittedCountedAndLoggedOnce) {
  const LoggedLines log;
  const SpanRecorder recorder("llm.chats");
  const Counted unknown(&nopspan::Stats::names_unknown);
  { const Span span{"llm.chats"}; }
  { const Span span{"llm.chats"}; }
  EXPECT_EQ(unknown.times(), 2U);
  EXPECT_THAT(recorder.names(), SizeIs(4));
  EXPECT_THAT(log.lines, ElementsAre("unknown span name \"chats\"; valid: chat, generate, image, step, stream, tool; "
                                     "it is emitted anyway"));
}

TEST(Llm, LiteralThatTheCatalogueDoesNotKnowForgesNoLine) {
  const LoggedLines log;
  const SpanRecorder recorder("llm.a\"; valid: \u2028b");
  { const Span span{"llm.a\"; valid: \u2028b"}; }
  ASSERT_THAT(log.lines, SizeIs(1));
  EXPECT_EQ(log.lines[0].substr(0, 43), "unknown span name \"a?; valid: ?b\"; valid: c");
}

TEST(Llm, LogSinkMayEmitWhereANameIsUnknown) {
  const Recorder recorder{"from.sink"};
  nopspan::set_log_sink([](nopspan::LogLevel, std::string_view) { nopspan::execute("from.sink"); });
  const SpanRecorder other("llm.of-a-sink");
  { const Span span{"llm.of-a-sink"}; }
  nopspan::set_log_sink({});
  EXPECT_EQ(recorder.size(), 1U);
}

TEST(Llm, NamesThatOnlyLookLikeItsOwnAreNotChecked) {
  const Recorder recorder{"llmx.start"};
  const Counted unknown(&nopspan::Stats::names_unknown);
  { const Span span{"llmx"}; }
  { const Span span{"llm"}; }
  { const Span span{llm::chat}; }
  EXPECT_EQ(unknown.times(), 0U);
}

TEST(Retry, BelongsToTheSpanThatIsNamed) {
  const Recorder recorder{"llm.adapter.retry"};
  const AsyncSpan call{llm::generate};
  llm::retry(call.context(), [](auto& r) { r.attempt(1).status_code(429); });
  const auto event = recorder.events().at(0);
  EXPECT_EQ(event->span_id(), id_of(call));
  EXPECT_THAT(event, HasMetadata("status_code", 429));
}

TEST(Retry, HasItsRequestAlsoIfNothingElseIsHandled) {
  const Recorder recorder{"llm.adapter.retry"};
  const Span chat{llm::chat};
  const Span step{llm::step};
  llm::retry([](auto& r) { r.attempt(1); });
  const auto event = recorder.events().at(0);
  EXPECT_EQ(event->span_id(), id_of(step));
  EXPECT_EQ(event->parent_id(), id_of(chat));
  EXPECT_EQ(event->request_id().size(), 22U);
  EXPECT_THAT(event, HasMetadata("request_id", chat.request_id().view()));
}

TEST(Retry, EvaluatesNothingWhenTheGateIsDown) {
  llm::retry([](auto&) { FAIL(); });
}

TEST(FirstToken, IsToldOnceASpan) {
  const Recorder recorder{"gen_ai.stream.first_token"};
  {
    Span span{llm::stream};
    span.first_token();
    span.first_token(2);
  }
  AsyncSpan other{llm::stream};
  other.first_token(3);
  other.first_token();
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], HasMetadata("gen_ai.stream.tokens_so_far", 1));
  EXPECT_TRUE(events[0]->measurement("time_to_first_token").exists());
  EXPECT_GE(events[0]->measurement("time_to_first_token").as_int(-1), 0);
  EXPECT_THAT(events[1], HasMetadata("gen_ai.stream.tokens_so_far", 3));
  EXPECT_EQ(events[1]->span_id(), id_of(other));
}

TEST(FirstToken, OfASpanThatIsNotRecordedIsNothing) {
  Span span{llm::stream};
  span.first_token();
}

}  // namespace
