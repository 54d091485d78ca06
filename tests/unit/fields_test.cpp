// SPDX-License-Identifier: Apache-2.0
// Fields: their limits, and what no program should pass.
#include "raised_gate.h"
#include "recorded.h"

#include <nopspan/agent.h>
#include <nopspan/context.h>
#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/genai.h>
#include <nopspan/llm.h>

#include <cmath>
#include <memory>

namespace {

// ---- The limits of metadata and measurements. A field beyond a limit is dropped as a whole, and counted.

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

std::string key(int i) { return "k" + std::to_string(i); }

template <class To>
void set_keys(To& to, int first, int end) {
  for (int i = first; i < end; ++i) to.set(key(i), i);
}

TEST(Fields, HoldOneHundredAndTwentyEightKeysAndCountTheRest) {
  const Recorder recorder{"a.b"};
  const Counted dropped(&nopspan::Stats::fields_dropped);
  nopspan::execute("a.b", [](Fields& f) {
    set_keys(f, 0, 128);
    f.set("over", 1).measure("over", 1);
    f.set(key(5), "replaced");  // an existing key takes no new place
  });
  EXPECT_EQ(dropped.times(), 2U);
  const auto event = recorder.events().at(0);
  EXPECT_EQ(event->metadata().size(), 128U);
  EXPECT_THAT(event, AllOf(LacksMetadata("over"), HasMetadata(key(5), "replaced")));
}

TEST(Fields, OfASpanAreBoundedOverItsWholeLife) {
  for (const int at_start : {100, 128}) {
    const SpanRecorder recorder("work");
    const Counted dropped(&nopspan::Stats::fields_dropped);
    {
      Span span{"work", [&](Fields& f) { set_keys(f, 0, at_start); }};
      set_keys(span, at_start, 200);
    }
    EXPECT_EQ(dropped.times(), 72U) << at_start;
    EXPECT_EQ(recorder.stop()->metadata().size(), 128U + 3U);  // and the three ids
    EXPECT_GT(recorder.stop()->monotonic_time_ns(), 0);
    EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("k127", 127), LacksMetadata("k128")));
  }
}

TEST(Fields, LeaveRoomForHowASpanEnded) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const auto fill = [](Fields& f) { set_keys(f, 0, 128); };
  EXPECT_THROW(nopspan::span("work", fill, [] { throw std::runtime_error("why"); }), std::runtime_error);
  Span(nopspan::Name("work"), fill).cancel("enough");
  { const nopspan::AsyncSpan left{"work", nopspan::Context(), fill}; }
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_FALSE(recorder.exception()->metadata("reason").is_null());
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], HasMetadata("cancel.reason", "enough"));
  EXPECT_THAT(stops[1], HasMetadata("abandoned", true));
}

TEST(Fields, OfASpanGetThePlaceOfStartMeasurementsBack) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  {
    Span span{"work", [](Fields& f) {
                for (int i = 0; i < 128; ++i) f.measure(key(i), i);
              }};
    for (int i = 0; i < 128; ++i) span.measure(key(i), i);
  }
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_EQ(recorder.stop()->measurements().size(), 128U + 2U);
}

TEST(Fields, HaveKeysOfAtMost255Bytes) {
  const Recorder recorder{"a.b"};
  const Counted dropped(&nopspan::Stats::fields_dropped);
  nopspan::execute("a.b", [](Fields& f) {
    f.set(std::string(255, 'k'), 1).set(std::string(256, 'k'), 2).measure(std::string(100'000, 'k'), 3);
  });
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_THAT(recorder.events().at(0), HasMetadata(std::string(255, 'k'), 1));
}

TEST(Fields, HoldSixteenMebibytesAndLeaveOutWhatIsOver) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const std::string big(10U << 20U, 'x');
  const std::string too_big(17U << 20U, 'y');
  {
    Span span{"work"};
    span.set("too big", too_big).set("big", big).set("big too", big).set("small", 1);
    span.set("list", Value::list({too_big}));
    span.set("small", big);  // does not fit, so the previous value remains
  }
  EXPECT_EQ(dropped.times(), 4U);
  EXPECT_EQ(recorder.stop()->metadata("big").as_string().size(), big.size());
  EXPECT_THAT(recorder.stop(), AllOf(LacksMetadata("too big"), LacksMetadata("list"), HasMetadata("small", 1)));
}

TEST(Fields, LeaveRoomForWhatHandlersAlsoGet) {
  constexpr std::size_t kMost = (16U << 20U) - 25;  // so many bytes are the key, the length and so on
  const std::string text(kMost, 'x');
  std::size_t size = 0;
  attach_ok("reader", "work.stop", [&](const Event& event) {
    EXPECT_EQ(event.metadata("text").as_string().size(), size);
    EXPECT_EQ(event.metadata().size(), 4U);
    EXPECT_EQ(event.measurements().size(), 2U);
  });
  const Counted dropped(&nopspan::Stats::fields_dropped);
  for (size = kMost - 480; size <= kMost; size += 24) {
    Span span{"work"};
    span.set("text", std::string_view(text.data(), size));
  }
  EXPECT_EQ(dropped.times(), 0U);
  detach_ok("reader");
}

TEST(Fields, AreCountedIfTheOutcomeOfASpanDoesNotFit) {
  const std::string text((16U << 20U) - 25, 'x');  // leaves no room
  const Recorder recorder{"work.stop", "work.exception"};
  const auto dropped_by = [&](const auto& end) {
    const Counted dropped(&nopspan::Stats::fields_dropped);
    {
      AsyncSpan span{"work"};
      span.set("text", text);
      end(span);
    }
    return dropped.times();
  };
  EXPECT_EQ(dropped_by([](AsyncSpan& span) { span.fail("type"); }), 1U);      // error.type
  EXPECT_EQ(dropped_by([](AsyncSpan& span) { span.cancel("reason"); }), 1U);  // cancel.reason
  EXPECT_EQ(dropped_by([](AsyncSpan&) {}), 1U);                               // abandoned
  const auto catch_exception = [](AsyncSpan& span) {
    try {
      throw std::runtime_error("message");
    } catch (...) {
      span.caught();
    }
  };
  EXPECT_EQ(dropped_by(catch_exception), 2U);  // kind, reason
}

TEST(Fields, NestSixtyFourDeepAndNoDeeper) {
  const Recorder recorder{"a.b"};
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const auto nested = [](int depth) {
    Value value(7);
    for (int i = 0; i < depth; ++i) value = i % 2 == 0 ? Value::list({value}) : Value::map({{"k", value}});
    return value;
  };
  nopspan::execute("a.b", [&](Fields& f) { f.set("deep", nested(64)).set("too deep", nested(65)).set("after", 1); });
  EXPECT_EQ(dropped.times(), 1U);
  EXPECT_THAT(recorder.events().at(0), AllOf(HasMetadata("deep", nested(64)), LacksMetadata("too deep")));
  EXPECT_THAT(recorder.events().at(0), HasMetadata("after", 1));
}

TEST(Fields, ClampIntegersOverTheSignedRangeAndCountThem) {
  const Recorder recorder{"a.b"};
  const Counted clamped(&nopspan::Stats::values_clamped);
  nopspan::execute("a.b", [](Fields& f) {
    f.set("max", std::numeric_limits<std::uint64_t>::max()).measure("max", std::uint64_t{1} << 63U);
    f.set("fits", static_cast<std::uint64_t>(kMax)).measure("min", std::numeric_limits<std::int64_t>::min());
  });
  EXPECT_EQ(clamped.times(), 2U);
  const auto event = recorder.events().at(0);
  EXPECT_THAT(event, AllOf(HasMetadata("max", kMax), HasMeasurement("max", kMax), HasMetadata("fits", kMax)));
  EXPECT_THAT(event, HasMeasurement("min", std::numeric_limits<std::int64_t>::min()));
}

TEST(Fields, AreWholeForHandlersAndCutOnlyWhereALabelGoesToProbes) {
  const SpanRecorder recorder("work");
  const Counted labels(&nopspan::Stats::truncated);  // an overlong label is truncated and counted
  short_span("work", [](Fields& f) { f.content("model", std::string(200, 's')); });
  EXPECT_THAT(recorder.stop(), HasMetadata("model", std::string(200, 's')));
  EXPECT_EQ(labels.times(), 0U) << "content is never a label";
  const std::string bytes("\xff\x00\n\xc3", 4);
  short_span("work", [&](Fields& f) { f.model(std::string(200, 'm')).set(bytes, bytes); });
  EXPECT_THAT(recorder.events("work.stop").at(1),
              AllOf(HasMetadata("model", std::string(200, 'm')), HasMetadata(bytes, bytes)));
  EXPECT_EQ(labels.times(), 1U);
}

// ---- A null pointer in place of a text must never crash.

using nopspan::Text;

const char* const kNull = nullptr;

TEST(NullText, IsNullAndEmpty) {
  for (const Text& text : {Text(), Text(nullptr), Text(kNull), Text(kNull, 5), Text(std::string_view())}) {
    EXPECT_TRUE(text.is_null());
    EXPECT_TRUE(text.empty());
    EXPECT_TRUE(text.view().empty());
  }
  EXPECT_FALSE(Text("").is_null());
  EXPECT_TRUE(Text("").empty());
  EXPECT_EQ(Text("ab\0c", 4).size(), 4U);
}

TEST(NullText, IsNoHandlersIdAndNoEventsName) {
  const auto handler = [](const Event&) {};
  EXPECT_EQ(nopspan::attach(nullptr, "a.b", handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach(kNull, "a.b", handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach("id", nullptr, handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach("id", "a.b", nullptr), Errc::invalid_argument);
  EXPECT_EQ(nopspan::attach_many(nullptr, {"a.b"}, handler), Errc::invalid_argument);
  EXPECT_EQ(nopspan::detach(nullptr), Errc::not_found);
  EXPECT_EQ(nopspan::list_handlers(nullptr).size(), nopspan::list_handlers("").size());
}

TEST(NullText, IsNoKey) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  Span{"work", [](Fields& f) { f.set(nullptr, 1).set("", 1).content(nullptr, "x").measure(nullptr, 1); }}
      .set(nullptr, "text")
      .measure(kNull, 1.5)
      .set(nullptr, Value::map({{"a", 1}}))
      .set(nullptr, nullptr);
  EXPECT_EQ(dropped.times(), 8U);
  EXPECT_EQ(recorder.stop()->metadata().size(), 3U);  // the three ids
}

TEST(NullText, IsANullValue) {
  const SpanRecorder recorder("work");
  Span{"work", [](Fields& f) { f.engine(nullptr).model(kNull).tenant(nullptr).content("c", kNull); }}
      .set("k", kNull)
      .set("literal", nullptr);
  for (const char* key : {"engine", "model", "tenant", "c", "k", "literal"}) {
    EXPECT_THAT(recorder.stop(), HasMetadata(key, nullptr));
  }
  EXPECT_TRUE(Value(kNull).is_null());
  EXPECT_TRUE(Value(Text()).is_null());
}

TEST(NullText, IsNoReason) {
  const SpanRecorder recorder("work");
  Span{"work"}.fail(nullptr, nullptr);
  Span{"work"}.cancel(nullptr);
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0],
              AllOf(HasStatus(Status::error), HasMetadata("error.type", "_OTHER"), LacksMetadata("error.message")));
  EXPECT_THAT(stops[1], HasStatus(Status::cancelled));
  nopspan::set_log_sink(nullptr);
  nopspan::llm::retry([](auto& r) { r.reason(nullptr); });
}

TEST(NullText, IsNoIdOfARequest) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  EXPECT_FALSE(Context::with_request_id(nullptr).empty());
  EXPECT_FALSE(Context::with_request_id(kNull).request_id().empty());
  EXPECT_EQ(invalid.times(), 2U);
}

TEST(NullText, IsNoTraceparent) {
  EXPECT_TRUE(Context::from_traceparent(nullptr).empty());
  EXPECT_TRUE(Context::from_traceparent(kNull, kNull).empty());
  const Context context = Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", nullptr);
  EXPECT_FALSE(context.empty());
  EXPECT_EQ(context.tracestate(), "");
}

// ---- Numbers, texts and shapes that no program should pass. The behaviour must be defined: no crash, and no loss
// without a count. Each test checks both receivers: a handler, and the encoder for the probes.

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

TEST_F(BadInput, NegativeCountsAreMetadataAndNoUsage) {
  const auto stop = stopped(llm::step, [](auto& m) { m.input_tokens(-5).max_tokens(-1); });
  EXPECT_THAT(stop, HasMetadata("input_tokens", -5));
  EXPECT_EQ(stop->flags() & 0x80U, 0U) << "the record's counts are not set";
}

TEST_F(BadInput, CountsOverWhatADoubleHoldsStayExact) {
  const SpanRecorder recorder("llm.step");
  constexpr std::int64_t kCount = (std::int64_t{1} << 53U) + 1;
  short_span(llm::step, [](auto& m) { m.input_tokens(kCount).output_tokens(INT64_MAX); });
  EXPECT_EQ(recorder.stop()->attributes().find("gen_ai.usage.input_tokens").as_int(), kCount);
  EXPECT_EQ(recorder.stop()->attributes().find("gen_ai.usage.output_tokens").as_int(), INT64_MAX);
}

TEST_F(BadInput, AMebibyteIsKeptForHandlersAndLeftOutOfTheRecordWhole) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  const std::string big(1U << 20U, 'x');
  const auto stop = stopped(llm::chat, [&](auto& m) { m.model("m").set("big", big); });
  EXPECT_EQ(stop->metadata("big").as_string().size(), big.size());
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

TEST_F(BadInput, OfTheSameKeyTwiceTheLaterCounts) {
  const auto start = started(llm::chat, [](auto& m) { m.temperature(1).temperature(0.5).set("k", 1).set("k", "two"); });
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

}  // namespace
