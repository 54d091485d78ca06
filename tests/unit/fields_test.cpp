// SPDX-License-Identifier: Apache-2.0
// The limits of metadata and measurements. A field beyond a limit is dropped as a whole, and counted.
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/span.h>

#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::int64_t kMax = std::numeric_limits<std::int64_t>::max();

std::string key(int i) { return "k" + std::to_string(i); }

TEST(Fields, TakeTheLaterValueAtThePlaceOfTheEarlier) {
  const Recorder recorder{"a.b"};
  nopspan::execute("a.b", [](Fields& f) {
    f.set("one", 1).set("two", "short").set("three", 3);
    f.set("two", std::string(300, 'x')).set("one", nullptr).set("two", Value::list({1, 2}));
  });
  std::vector<std::string> order;
  recorder.events().at(0)->metadata().for_each([&](std::string_view name, nopspan::ValueView value) {
    order.push_back(std::string(name) + "=" + value.copy().to_string());
  });
  EXPECT_THAT(order, ElementsAre("one=null", "two=[1,2]", "three=3"));
}

TEST(Fields, HoldOneHundredAndTwentyEightKeysAndCountTheRest) {
  const Recorder recorder{"a.b"};
  const Counted dropped(&nopspan::Stats::fields_dropped);
  nopspan::execute("a.b", [](Fields& f) {
    for (int i = 0; i < 128; ++i) f.set(key(i), i);
    f.set("over", 1).measure("over", 1);
    f.set(key(5), "replaced");  // an existing key takes no new place
  });
  EXPECT_EQ(dropped.times(), 2U);
  const auto event = recorder.events().at(0);
  EXPECT_EQ(event->metadata().size(), 128U);
  EXPECT_THAT(event, AllOf(LacksMetadata("over"), HasMetadata(key(5), "replaced")));
}

TEST(Fields, OfASpanAreBoundedOverItsWholeLife) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  {
    Span span{"work", [](Fields& f) {
                for (int i = 0; i < 100; ++i) f.set(key(i), i);
              }};
    for (int i = 100; i < 200; ++i) span.set(key(i), i);
  }
  EXPECT_EQ(dropped.times(), 72U);
  EXPECT_EQ(recorder.stop()->metadata().size(), 128U + 3U);  // and the three ids
  EXPECT_GT(recorder.stop()->monotonic_time_ns(), 0);
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("k127", 127), LacksMetadata("k128")));
}

TEST(Fields, OfASpanWithAsManyKeysAsItMayHaveTakeNoMore) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  {
    Span span{"work", [](Fields& f) {
                for (int i = 0; i < 128; ++i) f.set(key(i), i);
              }};
    for (int i = 128; i < 300; ++i) span.set(key(i), i);
  }
  EXPECT_EQ(dropped.times(), 172U);
  EXPECT_EQ(recorder.stop()->metadata().size(), 128U + 3U);
}

TEST(Fields, LeaveRoomForHowASpanEnded) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const auto fill = [](Fields& f) {
    for (int i = 0; i < 128; ++i) f.set(key(i), i);
  };
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

TEST(Fields, ShowContentToHandlersAlways) {
  const Recorder recorder{"a.b"};
  nopspan::execute("a.b", [](Fields& f) { f.content("prompt", "secret").content("n", 1); });
  EXPECT_THAT(recorder.events().at(0), AllOf(HasMetadata("prompt", "secret"), HasMetadata("n", 1)));
}

TEST(Fields, NeverMakeALabelOfContent) {
  const SpanRecorder recorder("work");
  const Counted labels(&nopspan::Stats::truncated);  // an overlong label is truncated and counted
  short_span("work", [](Fields& f) { f.content("model", std::string(200, 's')); });
  EXPECT_THAT(recorder.stop(), HasMetadata("model", std::string(200, 's')));
  EXPECT_EQ(labels.times(), 0U);
}

TEST(Fields, KeepWholeLabelsAndCutOnlyWhatGoesToProbes) {
  const SpanRecorder recorder("work");
  const Counted truncated(&nopspan::Stats::truncated);
  short_span("work", [](Fields& f) { f.model(std::string(200, 'm')); });
  EXPECT_THAT(recorder.stop(), HasMetadata("model", std::string(200, 'm')));
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(Fields, TakeAnyBytes) {
  const Recorder recorder{"a.b"};
  const std::string bytes("\xff\x00\n\xc3", 4);
  nopspan::execute("a.b", [&](Fields& f) { f.set(bytes, bytes); });
  EXPECT_THAT(recorder.events().at(0), HasMetadata(bytes, bytes));
}

}  // namespace
