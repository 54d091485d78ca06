// SPDX-License-Identifier: Apache-2.0
// StreamMeter, measured by a clock that the tests advance.
#include "fake_clock.h"
#include "fired.h"
#include "in_child.h"
#include "no_memory.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include "span/gap_histogram.h"

#include <nopspan/engine.h>
#include <nopspan/stream.h>

#include <nopspan/probes.h>

#include <cmath>
#include <memory>
#include <random>
#include <thread>
#include <type_traits>

namespace {

using nopspan::StreamMeter;
using nopspan::detail::GapHistogram;

constexpr std::uint64_t kHour = 3'600'000'000'000;

static_assert(sizeof(StreamMeter) == 16);
static_assert(std::is_nothrow_default_constructible_v<StreamMeter> && !std::is_copy_constructible_v<StreamMeter>);
static_assert(std::is_nothrow_move_constructible_v<StreamMeter> && std::is_nothrow_move_assignable_v<StreamMeter>);
static_assert(noexcept(std::declval<StreamMeter&>().token()) && noexcept(std::declval<StreamMeter&>().end()));

std::vector<std::string> measured(const nopspan::OwnedEvent& event) { return keys_of(event->measurements()); }

// A meter of a span, and a clock that only the tests advance.
class Meter : public ::testing::Test {
 protected:
  FakeClock clock_;
  SpanRecorder recorder_{"work"};
  StreamMeter meter_{AsyncSpan{"work"}};
};

TEST(StreamMeter, IsEmptyByDefaultAndTakesEveryCall) {
  StreamMeter meter;
  EXPECT_FALSE(meter);
  meter.token();
  meter.end();
  meter.fail("type");
  meter.cancel();
  meter.caught();
  EXPECT_FALSE(meter.span());
}

TEST_F(Meter, MeasuresTokensTheFirstOneAndTheGaps) {
  EXPECT_TRUE(meter_);
  const Recorder first{"gen_ai.stream.first_token"};
  clock_.advance(7 * kMillisecond);
  meter_.token(2);
  EXPECT_THAT(first.events().at(0), HasMeasurement("time_to_first_token", 7'000'000));
  for (const std::uint64_t ms : {1, 1, 3}) {
    clock_.advance(ms * kMillisecond);
    meter_.token();
  }
  clock_.advance(kMillisecond);
  meter_.end();
  EXPECT_FALSE(meter_);
  ASSERT_THAT(recorder_.names(), ElementsAre("work.start", "work.stop"));
  const auto stop = recorder_.stop();
  EXPECT_THAT(stop, AllOf(HasStatus(Status::ok), HasMeasurement("stream_tokens", 5)));
  EXPECT_THAT(stop, HasMeasurement("time_to_first_token_ns", 7'000'000));
  EXPECT_THAT(stop, HasMeasurement("gap_max_ns", 3'000'000));
  EXPECT_NEAR(static_cast<double>(stop->measurement("gap_p50_ns").as_int()), 1e6, 0.031e6);
  EXPECT_NEAR(static_cast<double>(stop->measurement("gap_p99_ns").as_int()), 3e6, 0.093e6);
  EXPECT_EQ(stop->duration_ns(), 13'000'000);
  EXPECT_EQ(stop->flags() & NOPSPAN_FLAG_HAS_USAGE, 0U);  // the tokens of a stream are not token usage
}

TEST(StreamMeter, TakesTheTimeOfATokenFromTheCaller) {
  const SpanRecorder recorder("work");
  StreamMeter meter{AsyncSpan{"work", {}, nopspan::SpanOptions({}, 1'000'000'000)}};
  const FakeClock clock;
  meter.token(2, 1'007'000'000);
  meter.token(1, 1'008'000'000);
  meter.token(1, 1'008'000'000);
  meter.token(1, 1'001'000'000);  // before the last one: the gap is 0
  meter.token(1, 1'009'000'000);
  meter.token(0, 1'010'000'000);
  EXPECT_EQ(clock.reads(), 1U) << "whether the first one is in the future";
  meter.end();
  const auto stop = recorder.stop();
  EXPECT_THAT(stop, AllOf(HasMeasurement("stream_tokens", 6), HasMeasurement("time_to_first_token_ns", 7'000'000)));
  EXPECT_THAT(stop, HasMeasurement("gap_max_ns", 1'000'000));
}

TEST_F(Meter, LeavesOutTimesThatCannotBeAndCountsThem) {
  const Counted left_out(&nopspan::Stats::values_clamped);
  const auto start = static_cast<std::uint64_t>(recorder_.start()->monotonic_time_ns());
  clock_.advance(50 * kMillisecond);
  meter_.token(1, start + 10 * kMillisecond);
  meter_.token(1, 5);              // of another clock
  meter_.token(2, start + kHour);  // in the future
  EXPECT_EQ(left_out.times(), 2U);
  meter_.token(1, start + 30 * kMillisecond);  // the time of the token before is unknown, so is the gap
  meter_.token(1, start + 31 * kMillisecond);
  meter_.end();
  const auto stop = recorder_.stop();
  EXPECT_THAT(stop, AllOf(HasMeasurement("stream_tokens", 6), HasMeasurement("gap_max_ns", kMillisecond)));
  EXPECT_THAT(stop, HasMeasurement("time_to_first_token_ns", 10 * kMillisecond));
}

TEST(StreamMeter, WhoseFirstTokenHasAnImpossibleTimeHasNoTimeToIt) {
  FakeClock clock;
  const SpanRecorder recorder("engine.request");
  const Counted left_out(&nopspan::Stats::values_clamped);
  for (const std::uint64_t at : {std::uint64_t{5}, UINT64_MAX}) {
    StreamMeter meter{AsyncSpan{nopspan::engine::request}};
    clock.advance(4 * kMillisecond);
    meter.token(1, at);
    meter.token();
    clock.advance(kMillisecond);
    meter.token();
    meter.end();
  }
  EXPECT_EQ(left_out.times(), 2U);
  for (const auto& stop : events_of(recorder, 2, "engine.request.stop")) {
    EXPECT_THAT(stop, AllOf(HasMeasurement("stream_tokens", 3), HasMeasurement("gap_max_ns", kMillisecond)));
    EXPECT_THAT(stop, AllOf(LacksMeasurement("ttft_ns"), LacksMeasurement("time_to_first_token_ns")));
  }
}

TEST(StreamMeter, ReadsTheClockOnceAToken) {
  const SpanRecorder recorder("work");
  // The library tries how quick the clock is after 16 readings, and then at most once a second.
  for (int i = 0; i < 16; ++i) {
    const Span span{"work"};
  }
  StreamMeter meter{AsyncSpan{"work"}};
  const FakeClock clock;
  meter.token();
  EXPECT_EQ(clock.reads(), 1U);  // the first token does not read the clock twice
  for (int i = 0; i < 10; ++i) meter.token();
  EXPECT_EQ(clock.reads(), 11U);
  meter.end();
}

TEST(StreamMeter, ReadsNoClockWhenTheGateIsDown) {
  const FakeClock clock;
  StreamMeter meter{AsyncSpan{"work"}};
  meter.token();
  meter.end();
  EXPECT_EQ(clock.reads(), 0U);
}

TEST(StreamMeter, MarksTheSpansFirstTokenAndFiresNoProbeMore) {
  const RaisedGate points(RaisedGate::points);
  const Recorder recorder{"gen_ai.stream.first_token"};
  StreamMeter meter{AsyncSpan{nopspan::engine::request}};
  const Fired fired;
  for (int i = 0; i < 100; ++i) meter.token(3);
  EXPECT_EQ(fired.all(), (Hits{{Probe::first_token, 1}}));
  ASSERT_EQ(recorder.size(), 1U);
  EXPECT_THAT(recorder.events()[0], HasMetadata("gen_ai.stream.tokens_so_far", 3));
  meter.end();
}

// While a handler of other spans is attached, a span inside a request runs, but nobody gets its fields.
TEST(StreamMeter, TakesNoMemoryIfNobodyGetsTheFields) {
  const SpanRecorder recorder("other");
  const Context request = Context::make();
  const auto next_block = [] {
    unsigned char* const block = nopspan::detail::take_block(1).bytes;
    nopspan::detail::give_back_block(block);
    return block;
  };
  StreamMeter{AsyncSpan{"work", request}}.end();
  unsigned char* const free = next_block();
  StreamMeter meter{AsyncSpan{"work", request}};
  ASSERT_TRUE(meter.span());
  meter.span().link(Context::make());
  for (int i = 0; i < 3; ++i) meter.token();
  EXPECT_EQ(next_block(), free);
  meter.end();
}

TEST(StreamMeter, LeavesOutWhatItDoesNotKnow) {
  const SpanRecorder recorder("work");
  StreamMeter none{AsyncSpan{"work"}};
  none.end();
  StreamMeter one{AsyncSpan{"work"}};
  one.token();
  one.end();
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(measured(stops[0]), ElementsAre("duration", "monotonic_time", "stream_tokens"));
  EXPECT_THAT(stops[0], HasMeasurement("stream_tokens", 0));
  EXPECT_THAT(measured(stops[1]), ElementsAre("duration", "monotonic_time", "stream_tokens", "time_to_first_token_ns"));
}

TEST_F(Meter, TakesNoTokensForNothingAndFewerAsAMistake) {
  const Counted repaired(&nopspan::Stats::values_clamped);
  meter_.token(0);
  EXPECT_EQ(repaired.times(), 0U);
  meter_.token(-1);
  meter_.token(INT64_MIN);
  EXPECT_EQ(repaired.times(), 2U);
  meter_.token(2);
  meter_.token(-5);
  EXPECT_EQ(repaired.times(), 3U);
  meter_.end();
  EXPECT_THAT(recorder_.stop(), AllOf(HasMeasurement("stream_tokens", 2), LacksMeasurement("gap_max_ns")));
}

TEST_F(Meter, CountsUpToWhatAnIntegerHolds) {
  meter_.token(INT64_MAX);
  meter_.token(INT64_MAX);
  meter_.end();
  EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", INT64_MAX));
}

TEST_F(Meter, LeavesTheApplicationsMeasurementsAsTheyAre) {
  meter_.span().measure("stream_tokens", 77).set("gap_max_ns", "text");
  meter_.token();
  meter_.token();
  meter_.end();
  EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", 77));
  EXPECT_THAT(recorder_.stop(), HasMetadata("gap_max_ns", "text"));  // metadata is separate from measurements
  EXPECT_TRUE(recorder_.stop()->measurement("gap_max_ns").exists());
}

TEST(StreamMeter, EndsOnceAsTheFirstCallSays) {
  const SpanRecorder recorder("work");
  StreamMeter failed{AsyncSpan{"work"}};
  failed.token();
  failed.fail("timeout", "no answer");
  failed.end();
  StreamMeter cancelled{AsyncSpan{"work"}};
  cancelled.token();
  cancelled.cancel("client gone");
  cancelled.fail("timeout");
  const auto stops = events_of(recorder, 2, "work.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(stops[0], HasMeasurement("stream_tokens", 1));
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMetadata("cancel.reason", "client gone")));
  EXPECT_THAT(stops[1], HasMeasurement("stream_tokens", 1));
}

TEST_F(Meter, EndsByAnException) {
  meter_.token();
  try {
    throw std::runtime_error("broken pipe");
  } catch (...) {
    meter_.caught();
  }
  EXPECT_FALSE(meter_);
  ASSERT_THAT(recorder_.names(), ElementsAre("work.start", "work.exception"));
  EXPECT_THAT(recorder_.exception(), AllOf(HasMetadata("kind", "error"), HasMeasurement("stream_tokens", 1)));
}

TEST(StreamMeter, IsAbandonedWithItsMeasurements) {
  const SpanRecorder recorder("work");
  {
    StreamMeter destroyed{AsyncSpan{"work"}};
    destroyed.token();
  }
  StreamMeter assigned{AsyncSpan{"work"}};
  assigned.token(2);
  assigned = StreamMeter{};
  const auto stops = events_of(recorder, 2, "work.stop");
  for (const auto& stop : stops) EXPECT_THAT(stop, HasMetadata("abandoned", true));
  EXPECT_THAT(stops[0], HasMeasurement("stream_tokens", 1));
  EXPECT_THAT(stops[1], HasMeasurement("stream_tokens", 2));
}

TEST_F(Meter, MovesBetweenThreads) {
  meter_.token();
  std::thread([moved = std::move(meter_)]() mutable {
    moved.token();
    moved.end();
  }).join();
  EXPECT_FALSE(meter_);  // NOLINT(bugprone-use-after-move): it is empty
  EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", 2));
}

TEST_F(Meter, IsTheSpanForFieldsAndContext) {
  meter_.span().set("key", 1);
  const AsyncSpan child{"child", meter_.span().context()};
  EXPECT_EQ(child.request_id(), meter_.span().request_id());
  meter_.end();
  EXPECT_THAT(recorder_.stop(), HasMetadata("key", 1));
}

TEST_F(Meter, WhoseSpanIsEndedWithoutItIsOverToo) {
  meter_.token();
  meter_.span().end();
  EXPECT_FALSE(meter_);
  meter_.token();
  meter_.end();
  EXPECT_EQ(recorder_.events("work.stop").size(), 1U);
  EXPECT_THAT(recorder_.stop(), LacksMeasurement("stream_tokens"));
}

TEST(StreamMeter, OfTheParentDoesNothingInTheChild) {
  const Recorder recorder{"work.stop", "gen_ai.stream.first_token"};
  StreamMeter meter{AsyncSpan{"work"}};
  StreamMeter begun{AsyncSpan{"work"}};
  begun.token();
  EXPECT_EQ(recorder.size(), 1U);
  expect_in_child([&] {
    const FakeClock clock;
    meter.token();
    begun.token();
    EXPECT_EQ(clock.reads(), 0U);
    meter.end();
    begun.end();
    EXPECT_EQ(recorder.size(), 1U);
    StreamMeter own{AsyncSpan{"work"}};
    own.token();
    own.end();
    EXPECT_EQ(recorder.size(), 3U);
  });
  meter.end();
  begun.end();
  EXPECT_EQ(recorder.events("work.stop").size(), 2U);
}

TEST(StreamMeter, UsesItsMemoryAgainAndStartsFromNothing) {
  FakeClock clock;
  SpanRecorder recorder("work");
  for (int i = 0; i < 200; ++i) {
    std::vector<StreamMeter> meters;
    for (int k = 0; k < 100; ++k) meters.emplace_back(AsyncSpan{"work"});  // more than the library keeps for reuse
    for (StreamMeter& meter : meters) {
      meter.token();
      clock.advance(1 + static_cast<std::uint64_t>(i));
      meter.token();
      meter.end();
    }
    const auto stops = events_of(recorder, 100, "work.stop");
    for (const auto& stop : stops) {
      ASSERT_THAT(stop, HasMeasurement("stream_tokens", 2));
      ASSERT_THAT(stop, HasMeasurement("gap_max_ns", 1 + i));
    }
    recorder.clear();
  }
}

TEST(StreamMeter, WithoutMemoryLeavesTheSpanAsItIs) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "the sanitizers end a program without memory";
  expect_in_child([] {
    const SpanRecorder recorder("work");
    AsyncSpan span{"work"};
    StreamMeter meter;
    {
      const Counted left_out(&nopspan::Stats::fields_dropped);
      const NoMemory here;
      meter = StreamMeter{std::move(span)};
      meter.token();
      EXPECT_EQ(left_out.times(), 1U);
    }
    EXPECT_TRUE(meter);
    meter.token();
    meter.end();
    EXPECT_THAT(measured(recorder.stop()), ElementsAre("duration", "monotonic_time"));
    EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_HAS_FIRST_TOKEN, 0U);
  });
}

TEST_F(Meter, OfAMillionTokensHasTheExactQuantilesWithinThreePercent) {
  std::mt19937_64 random(20261120);
  std::lognormal_distribution<double> pace(std::log(20e6), 1.5);
  std::vector<std::uint64_t> gaps(999'999);
  for (std::uint64_t& gap : gaps) gap = static_cast<std::uint64_t>(pace(random));
  meter_.token();
  for (const std::uint64_t gap : gaps) {
    clock_.advance(gap);
    meter_.token();
  }
  meter_.end();
  std::sort(gaps.begin(), gaps.end());
  const auto exact = [&](unsigned percent) {
    return static_cast<double>(gaps[(gaps.size() * percent + 99) / 100 - 1]);
  };
  const auto stop = recorder_.stop();
  EXPECT_THAT(stop, HasMeasurement("stream_tokens", 1'000'000));
  EXPECT_THAT(stop, HasMeasurement("gap_max_ns", static_cast<std::int64_t>(gaps.back())));
  EXPECT_NEAR(static_cast<double>(stop->measurement("gap_p50_ns").as_int()), exact(50), 0.031 * exact(50));
  EXPECT_NEAR(static_cast<double>(stop->measurement("gap_p99_ns").as_int()), exact(99), 0.031 * exact(99));
}

TEST_F(Meter, TakesAClockThatStandsStillOrGoesBackForNoTimeAtAll) {
  meter_.token();
  meter_.token();
  clock_.go_back(1000);
  meter_.token();
  meter_.end();
  for (const char* key : {"gap_p50_ns", "gap_p99_ns", "gap_max_ns"}) {
    EXPECT_THAT(recorder_.stop(), HasMeasurement(key, 0));
  }
}

// The pairs of an attribute: value, count, value, count, ...
std::vector<std::pair<std::int64_t, std::int64_t>> pairs_in(const nopspan::OwnedEvent& event, const char* key) {
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
  const Value list = event->attributes().find(key).copy();
  if (list.type() != Value::Type::list) return pairs;
  for (std::size_t i = 0; i + 1 < list.as_list().size(); i += 2) {
    pairs.emplace_back(list.as_list()[i].as_int(), list.as_list()[i + 1].as_int());
  }
  return pairs;
}

TEST(StreamMeter, ListsItsGapsForACollector) {
  FakeClock clock;
  const RaisedGate collector(RaisedGate::batch);
  const SpanRecorder recorder("work");
  StreamMeter meter{AsyncSpan{"work"}};
  meter.token(3);
  for (const std::uint64_t gap : {1, 1, 8, 1}) {
    clock.advance(gap * kMillisecond);
    meter.token();
  }
  meter.end();
  const auto gaps = pairs_in(recorder.stop(), "gaps_ns");
  ASSERT_EQ(gaps.size(), 2U);
  EXPECT_NEAR(static_cast<double>(gaps[0].first), 1e6, 0.031e6);
  EXPECT_EQ(gaps[0].second, 3);
  EXPECT_EQ(gaps[1], std::pair(8 * kMillisecond, std::int64_t{1}));
  EXPECT_FALSE(recorder.stop()->attributes().find("token_gaps_ns").exists()) << "each gap brought one token";
  EXPECT_FALSE(recorder.stop()->metadata().find("gaps_ns").exists()) << "it is for tracers";
  EXPECT_THAT(recorder.stop(), LacksMeasurement("gaps_ns"));
}

TEST(StreamMeter, CountsEachTokenOfAGapThatBroughtSeveral) {
  FakeClock clock;
  const RaisedGate collector(RaisedGate::batch);
  const SpanRecorder recorder("engine.request");
  StreamMeter meter{AsyncSpan{nopspan::engine::request}};
  meter.token();
  const std::pair<std::uint64_t, std::int64_t> calls[] = {{2, 1}, {12, 3}, {2, 1}, {0, 0}, {20, 2}};
  for (const auto& [ms, tokens] : calls) {
    clock.advance(ms * kMillisecond);
    meter.token(tokens);
  }
  meter.end();
  const auto stop = recorder.stop();
  EXPECT_THAT(stop, AllOf(HasMeasurement("stream_tokens", 8), HasMeasurement("gap_max_ns", 20'000'000)));
  const auto gaps = pairs_in(stop, "nopspan.gaps_ns"), tokens = pairs_in(stop, "nopspan.token_gaps_ns");
  ASSERT_EQ(gaps.size(), 3U);
  EXPECT_EQ(gaps[0].second, 2);  // 2 ms
  EXPECT_EQ(gaps[1].second, 1);  // 12 ms
  EXPECT_EQ(gaps[2], std::pair(20 * kMillisecond, std::int64_t{1}));
  ASSERT_EQ(tokens.size(), 3U);
  EXPECT_EQ(tokens[0].second, 2);  // 2 ms
  EXPECT_NEAR(static_cast<double>(tokens[1].first), 4e6, 0.13e6);
  EXPECT_EQ(tokens[1].second, 3);
  EXPECT_EQ(tokens[2], std::pair(10 * kMillisecond, std::int64_t{2}));
}

TEST(StreamMeter, ListsNoGapsWithoutACollector) {
  FakeClock clock;
  const RaisedGate script(RaisedGate::spans);
  const SpanRecorder recorder("work");
  StreamMeter meter{AsyncSpan{"work"}};
  meter.token();
  meter.token(2);
  meter.end();
  EXPECT_THAT(recorder.stop(), LacksAttribute("gaps_ns"));
}

TEST(StreamMeter, KeepsAListOfGapsThatTheApplicationSet) {
  FakeClock clock;
  const RaisedGate collector(RaisedGate::batch);
  const SpanRecorder recorder("work");
  StreamMeter meter{AsyncSpan{"work"}};
  meter.token();
  meter.token();
  meter.span().with([](nopspan::Fields& fields) { fields.set("gaps_ns", 7); });
  meter.end();
  EXPECT_EQ(recorder.stop()->attributes().find("gaps_ns").copy(), Value(7));
}

// The values and counts that a histogram lists.
std::vector<std::pair<std::uint64_t, std::uint64_t>> listed(const GapHistogram& histogram) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> list;
  histogram.for_each([&](std::uint64_t value, std::uint64_t count) { list.emplace_back(value, count); });
  return list;
}

TEST(GapHistogram, ListsTheLongestGapExactly) {
  const auto histogram = std::make_unique<GapHistogram>();
  EXPECT_TRUE(listed(*histogram).empty());
  histogram->add(0);
  EXPECT_EQ(listed(*histogram), (std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 1}}));
  histogram->add(2 * kHour);
  histogram->add(3 * kHour, 4);
  const auto list = listed(*histogram);
  ASSERT_EQ(list.size(), 3U);
  EXPECT_LE(list[0].first, 32U);
  EXPECT_EQ(list[1], std::pair(GapHistogram::kRange, std::uint64_t{4}));
  EXPECT_EQ(list[2], std::pair(3 * kHour, std::uint64_t{1}));
}

// One gap in each of so many buckets: their lists have at most kMostValues values, each within the error.
TEST(GapHistogram, JoinsBucketsIfThereAreTooMany) {
  for (const unsigned octaves : {1U, 7U, 8U, 15U, 16U, 28U}) {
    const auto histogram = std::make_unique<GapHistogram>();
    std::vector<std::uint64_t> gaps;
    for (unsigned power = 10; power < 10 + octaves; ++power) {
      for (std::uint64_t step = 0; step < 16; ++step) gaps.push_back((16 + step) << (power - 4));
    }
    for (const std::uint64_t gap : gaps) histogram->add(gap);
    const double error = octaves < 8 ? 1.0 / 33 : octaves < 16 ? 1.0 / 17 : 1.0 / 9;
    const auto list = listed(*histogram);
    EXPECT_LE(list.size(), GapHistogram::kMostValues);
    std::size_t next = 0;
    std::uint64_t last = 0;
    for (const auto& [value, count] : list) {
      ASSERT_LT(last, value);
      last = value;
      for (std::uint64_t i = 0; i < count; ++i, ++next) {
        const auto gap = static_cast<double>(gaps.at(next));
        ASSERT_NEAR(static_cast<double>(value), gap, gap * error + 1) << octaves;
      }
    }
    EXPECT_EQ(next, gaps.size());
  }
}

TEST(GapHistogram, IsWithinItsErrorAtBothEndsOfEveryBucket) {
  for (unsigned power = 0; power < 38; ++power) {
    for (std::uint64_t step = 0; step < 64; ++step) {
      const std::uint64_t base = std::uint64_t{1} << power;
      for (const std::uint64_t gap : {base + base * step / 64, base + base * step / 64 - 1}) {
        const auto histogram = std::make_unique<GapHistogram>();  // zero-filled
        histogram->add(gap);
        histogram->add(GapHistogram::kRange);  // so that the median is not the maximum, which is exact
        const auto found = static_cast<double>(histogram->quantile(50));
        const double allowed = gap < 1024 ? 32 : static_cast<double>(gap) / 33 + 1;
        ASSERT_NEAR(found, static_cast<double>(gap), allowed) << gap;
      }
    }
  }
}

TEST(GapHistogram, TakesTheNearestRank) {
  const auto histogram = std::make_unique<GapHistogram>();
  EXPECT_TRUE(histogram->empty());
  EXPECT_EQ(histogram->quantile(99), 0U);
  for (int i = 0; i < 99; ++i) histogram->add(kMillisecond);
  histogram->add(kHour);
  EXPECT_NEAR(static_cast<double>(histogram->quantile(99)), 1e6, 0.031e6);
  histogram->add(kHour);
  EXPECT_EQ(histogram->quantile(99), GapHistogram::kRange);  // the 100th of 101
  EXPECT_EQ(histogram->longest(), kHour);
}

TEST(GapHistogram, TakesEveryNumber) {
  const auto histogram = std::make_unique<GapHistogram>();
  for (const std::uint64_t gap :
       {std::uint64_t{0}, std::uint64_t{1}, GapHistogram::kRange - 1, GapHistogram::kRange, UINT64_MAX}) {
    histogram->add(gap);
  }
  EXPECT_EQ(histogram->longest(), UINT64_MAX);
  EXPECT_EQ(histogram->quantile(100), GapHistogram::kRange);
}

}  // namespace
