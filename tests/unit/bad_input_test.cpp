// SPDX-License-Identifier: Apache-2.0
// Numbers, texts and shapes that no program should pass. The behaviour must be defined: no crash, and no loss without a
// count. Each test checks both receivers: a handler, and the encoder for the probes.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai.h>
#include <nopspan/llm.h>
#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

namespace agent = nopspan::agent;
namespace llm = nopspan::llm;

class BadInput : public ::testing::Test {
 private:
  const RaisedGate spans_{RaisedGate::spans};
  const RaisedGate points_{RaisedGate::points};
};

TEST_F(BadInput, NumbersThatAreNoneStayWhatTheyAre) {
  const SpanRecorder recorder("llm.chat");
  Span{llm::chat, [](auto& m) { m.temperature(kNaN).top_p(kInfinity).total_cost(kNaN); }}.measure("load", -kInfinity);
  const auto stop = recorder.stop();
  EXPECT_TRUE(std::isnan(stop->metadata("temperature").as_double()));
  EXPECT_TRUE(std::isnan(stop->attributes().find("gen_ai.request.temperature").as_double()));
  EXPECT_EQ(stop->attributes().find("gen_ai.request.top_p").as_double(), kInfinity);
  EXPECT_EQ(stop->measurement("load").as_double(), -kInfinity);
  EXPECT_FALSE(stop->attributes().find("gen_ai.usage.cost").exists()) << "the cost is unknown";
}

TEST_F(BadInput, MetricsTakeNoNumberThatIsNone) {
  const Value usage = Value::map({{"input_tokens", -1}, {"output_tokens", kNaN}});
  const auto metrics = nopspan::genai::metrics_stop(Value::map({{"usage", usage}}), 5);
  ASSERT_EQ(metrics.size(), 1U);
  EXPECT_EQ(metrics[0].name, "gen_ai.client.operation.duration");
  EXPECT_TRUE(nopspan::genai::metrics_stop(Value::map(), -1).empty());
}

TEST_F(BadInput, NegativeCountsAreMetadataAndNoUsage) {
  const SpanRecorder recorder("llm.step");
  short_span(llm::step, [](auto& m) { m.input_tokens(-5).max_tokens(-1); });
  EXPECT_THAT(recorder.stop(), HasMetadata("input_tokens", -5));
  EXPECT_EQ(recorder.stop()->flags() & 0x80U, 0U) << "the record's counts are not set";
}

TEST_F(BadInput, CountsOverWhatADoubleHoldsStayExact) {
  const SpanRecorder recorder("llm.step");
  constexpr std::int64_t kCount = (std::int64_t{1} << 53U) + 1;
  short_span(llm::step, [](auto& m) { m.input_tokens(kCount).output_tokens(INT64_MAX); });
  EXPECT_EQ(recorder.stop()->attributes().find("gen_ai.usage.input_tokens").as_int(), kCount);
  EXPECT_EQ(recorder.stop()->attributes().find("gen_ai.usage.output_tokens").as_int(), INT64_MAX);
}

TEST_F(BadInput, AnEndBeforeTheStartIsADurationOfZero) {
  const SpanRecorder recorder("engine.request");
  nopspan::AsyncSpan span{nopspan::engine::request, Context(), {nopspan::SpanKind::server, 1000}};
  span.end_at(10);
  span.end();
  EXPECT_EQ(recorder.stop()->duration_ns(), 0);
}

TEST_F(BadInput, TextsThatAreNoUtf8LeaveAsQuestionMarks) {
  const Counted repaired(&nopspan::Stats::invalid_utf8);
  const SpanRecorder recorder("llm.chat");
  short_span(llm::chat, [](auto& m) {
    m.set("text",
          "a\xff"
          "b")
        .model("m\x80");
  });
  EXPECT_EQ(recorder.stop()->metadata("text").as_string(),
            "a\xff"
            "b")
      << "handlers receive the values unchanged";
  EXPECT_GT(repaired.times(), 0U);
}

TEST_F(BadInput, AMebibyteIsKeptForHandlersAndLeftOutOfTheRecordWhole) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  const SpanRecorder recorder("llm.chat");
  const std::string big(1U << 20U, 'x');
  short_span(llm::chat, [&](auto& m) { m.model("m").set("big", big); });
  EXPECT_EQ(recorder.stop()->metadata("big").as_string().size(), big.size());
  EXPECT_EQ(dropped.times(), 2U) << "in the record of the start, and in that of the stop";
}

TEST_F(BadInput, WhatIsTooMuchIsCountedOnceAnEventHoweverManyProbesItHas) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  const std::string big(1U << 20U, 'x');
  const auto work = [] { throw std::runtime_error("broken"); };
  EXPECT_THROW(nopspan::span(
                   llm::chat, [&](auto& m) { m.set("big", big); }, work),
               std::runtime_error);
  EXPECT_EQ(dropped.times(), 2U) << "span_stop and span_exception carry the same bytes";
}

TEST(Attributes, AreNotEncodedForHandlersAlone) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  const SpanRecorder recorder("llm.chat");
  const std::string big(1U << 20U, 'x');
  short_span(llm::chat, [&](auto& m) { m.set("big", big); });
  EXPECT_EQ(dropped.times(), 0U);
}

TEST_F(BadInput, TenThousandAttributesAreTheFirst128AndACount) {
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const SpanRecorder recorder("llm.chat");
  {
    Span span{llm::chat};
    for (int i = 0; i < 10000; ++i) span.set("key" + std::to_string(i), i);
  }
  EXPECT_EQ(dropped.times(), 10000U - 128U);
  EXPECT_THAT(recorder.stop(), HasMetadata("key127", 127));
  EXPECT_FALSE(recorder.stop()->metadata("key128").exists());
}

TEST_F(BadInput, OfTheSameKeyTwiceTheLaterCounts) {
  const SpanRecorder recorder("llm.chat");
  short_span(llm::chat, [](auto& m) { m.temperature(1).temperature(0.5).set("k", 1).set("k", "two"); });
  const auto start = recorder.start();
  EXPECT_EQ(start->metadata("k").copy(), Value("two"));
  EXPECT_EQ(start->attributes().find("gen_ai.request.temperature").copy(), Value(0.5));
}

TEST_F(BadInput, AThousandSpansInsideEachOtherAreOneRequest) {
  const SpanRecorder recorder("llm.step");
  std::vector<std::unique_ptr<Span>> open;
  for (int i = 0; i < 1000; ++i) {
    open.push_back(std::make_unique<Span>(llm::step, [](auto& m) { m.output_tokens(1); }));
  }
  while (!open.empty()) open.pop_back();
  const auto events = events_of(recorder, 2000);
  for (std::size_t i = 1; i < 1000; ++i) {
    EXPECT_THAT(events[i], IsChildOf(events[i - 1]));
  }
}

TEST_F(BadInput, AStopWithoutAStartIsAnEventOfItsOwn) {
  const Recorder recorder(agent::event_names());
  EXPECT_EQ(agent::emit_tool_stop(Value::map({{"tool_name", "t"}}), "done", 0), Errc::ok);
  EXPECT_EQ(agent::emit("agent.llm.stop", Value::map({{"duration", -7}}), Value::map()), Errc::ok);
  EXPECT_EQ(agent::emit("agent.compaction.stop", Value::map(), Value::map()), Errc::ok);
  ASSERT_EQ(recorder.size(), 3U);
  EXPECT_EQ(recorder.events()[0]->duration_ns(), 0);
  EXPECT_EQ(recorder.events()[1]->duration_ns(), -7) << "unchanged";
}

TEST_F(BadInput, AnEngineThatCannotCountIsBelievedNothing) {
  const Counted clamped(&nopspan::Stats::values_clamped);
  const SpanRecorder recorder("engine.request");
  {
    nopspan::AsyncSpan span{nopspan::engine::request};
    span.with<nopspan::engine::RequestFields>([](auto& m) { m.queue_ns(-1).decode_ns(0).output_tokens(10); });
    span.end();
  }
  EXPECT_THAT(recorder.stop(), LacksMeasurement("tokens_per_second"));
  EXPECT_GT(clamped.times(), 0U);
}

}  // namespace
