// SPDX-License-Identifier: Apache-2.0
// Lazy streams: their span lasts as long as a consumer reads them, and nothing is read ahead.
#include "in_thread.h"
#include "recorded.h"
#include "sanitizers.h"

#include <nopspan/context.h>
#include <nopspan/llm.h>

#include <nopspan/probes.h>

#include <pthread.h>

#include <memory>
#include <optional>
#include <thread>
#include <type_traits>

namespace {

namespace llm = nopspan::llm;

constexpr auto kNoMetadata = [](auto&) {};

// Yields 1, 2, … `count`.
struct Counter {
  int count;
  int given = 0;
  std::optional<int> operator()() { return given < count ? std::optional<int>(++given) : std::nullopt; }
};

// A range that computes each item on request, and remembers how far it was read.
struct LazyRange {
  struct Sentinel {};
  struct Iterator {
    LazyRange* range;
    int operator*() const {
      ++range->looked_at;
      return range->at;
    }
    Iterator& operator++() {
      range->advance();
      return *this;
    }
    bool operator!=(Sentinel) const { return range->at <= range->count; }
  };

  int count = 0;
  int throws_at = -1;
  int at = 0;
  int looked_at = 0;

  void advance() {
    if (++at == throws_at) throw std::runtime_error("connection reset");
  }
  Iterator begin() {
    advance();
    return {this};
  }
  static Sentinel end() { return {}; }
};

class Streams : public ::testing::Test {
 protected:
  // Checks that the recorder has exactly one end, with status ok.
  void expect_ok(std::int64_t tokens) const {
    ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.stop"));
    EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::ok), HasMetadata("response", nullptr)));
    EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", tokens));
    EXPECT_TRUE(recorder_.stop()->measurement("opened_ns").exists());
    EXPECT_LE(recorder_.stop()->measurement("opened_ns").as_int(), recorder_.stop()->duration_ns());
  }

  void expect_exception(const std::string& message) const {
    ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.exception"));
    const auto event = recorder_.exception();
    EXPECT_THAT(event, HasMetadata("kind", "error"));
    EXPECT_EQ(event->metadata("reason").find("type").as_string(), "std::runtime_error");
    EXPECT_EQ(event->metadata("reason").find("message").as_string(), message);
    EXPECT_THAT(event, LacksMetadata("response"));
  }

  void expect_abandoned(std::int64_t tokens) const {
    ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.stop"));
    EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::cancelled), HasMetadata("abandoned", true)));
    EXPECT_THAT(recorder_.stop(), AllOf(HasMetadata("response", nullptr), HasMeasurement("stream_tokens", tokens)));
  }

  SpanRecorder recorder_{"llm.stream"};
};
using PullStream = Streams;
using OpenPull = Streams;
using StreamRange = Streams;
using PushStream = Streams;

template <class Stream>
void read_all(Stream& stream) {
  while (stream.next()) continue;
}

TEST_F(PullStream, EndsWhenItsSourceDoes) {
  auto stream = llm::pull_stream([](auto& m) { m.engine("e").model("m"); }, Counter{3});
  std::vector<int> items;
  while (auto item = stream.next()) items.push_back(*item);
  EXPECT_THAT(items, ElementsAre(1, 2, 3));
  expect_ok(3);
  EXPECT_THAT(recorder_.start(), AllOf(HasMetadata("model", "m"), LacksMetadata("response")));
  EXPECT_TRUE(recorder_.stop()->measurement("time_to_first_token_ns").exists());
  EXPECT_TRUE(recorder_.stop()->measurement("gap_p99_ns").exists());
}

TEST_F(PullStream, NeverReadsAhead) {
  Counter source{3};
  auto stream = llm::pull_stream(source);
  EXPECT_EQ(source.given, 0);
  for (int i = 1; i <= 3; ++i) {
    EXPECT_EQ(stream.next(), i);
    EXPECT_EQ(source.given, i);
  }
  EXPECT_EQ(recorder_.events("llm.stream.stop").size(), 0U);  // the consumer has not reached the end yet
  EXPECT_EQ(stream.next(), std::nullopt);
  expect_ok(3);
}

TEST_F(PullStream, PassesOnPointersReferencesAndWhatOnlyMoves) {
  int value = 7;
  const int* pointers[] = {&value, nullptr};
  const int** at = pointers;
  auto by_pointer = llm::pull_stream([&] { return *at++; });
  EXPECT_EQ(by_pointer.next(), &value);
  EXPECT_EQ(by_pointer.next(), nullptr);

  std::optional<std::string> shared = "text";
  auto by_reference = llm::pull_stream([&]() -> std::optional<std::string>& { return shared; });
  static_assert(std::is_same_v<decltype(by_reference.next()), std::optional<std::string>&>);
  EXPECT_EQ(&by_reference.next(), &shared);

  auto by_value = llm::pull_stream([source = std::make_unique<int>(5)]() mutable { return std::move(source); });
  EXPECT_EQ(*by_value.next(), 5);
  EXPECT_EQ(by_value.next(), nullptr);
  EXPECT_EQ(recorder_.events("llm.stream.stop").size(), 2U);
}

TEST_F(PullStream, IsAbandonedWhenDestroyedEarly) {
  {
    auto stream = llm::pull_stream(Counter{3});
    stream.next();
  }
  expect_abandoned(1);
}

TEST_F(PullStream, IsAbandonedWhenAssignedOver) {
  auto stream = llm::pull_stream(Counter{3});
  stream.next();
  stream = llm::pull_stream(Counter{2});
  ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.start", "llm.stream.stop"));
  EXPECT_THAT(recorder_.stop(), HasMetadata("response", nullptr));
  EXPECT_EQ(recorder_.stop()->span_id(), recorder_.start()->span_id());
  read_all(stream);
  EXPECT_THAT(recorder_.events("llm.stream.stop").at(1), HasStatus(Status::ok));
}

TEST_F(PullStream, EndsByAnExceptionOfItsSource) {
  auto stream = llm::pull_stream([n = 0]() mutable -> std::optional<int> {
    if (++n == 2) throw std::runtime_error("connection reset");
    return n;
  });
  EXPECT_EQ(stream.next(), 1);
  EXPECT_THROW(stream.next(), std::runtime_error);
  expect_exception("connection reset");
  EXPECT_THAT(recorder_.exception(), HasMeasurement("stream_tokens", 1));
  EXPECT_EQ(stream.next(), 3);  // the source decides what follows an exception
  EXPECT_EQ(recorder_.size(), 2U);
}

TEST_F(PullStream, EndsByFailWithoutAnException) {
  auto stream = llm::pull_stream(Counter{3});
  stream.next();
  stream.fail("timeout", "no answer");
  read_all(stream);
  ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.stop"));
  EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::error), HasMetadata("error.type", "timeout")));
  EXPECT_THAT(recorder_.stop(), AllOf(HasMetadata("response", nullptr), HasMeasurement("stream_tokens", 1)));
}

TEST_F(PullStream, GivesUsageToItsSpanWhileItIsConsumed) {
  auto stream = llm::pull_stream(Counter{1});
  while (stream.next()) stream.span().with<llm::GenerateFields>([](auto& m) { m.input_tokens(4).output_tokens(1); });
  EXPECT_THAT(recorder_.stop(), HasMetadata("output_tokens", 1));
  EXPECT_NE(recorder_.stop()->flags() & NOPSPAN_FLAG_HAS_USAGE, 0U);
}

TEST_F(PullStream, HasNoResponseWhateverIsSet) {
  auto stream = llm::pull_stream(Counter{0});
  stream.span().set("response", "forced");
  stream.next();
  EXPECT_THAT(recorder_.stop(), HasMetadata("response", nullptr));
}

TEST_F(PullStream, AsksAnItemHowManyTokensItIs) {
  auto stream = llm::pull_stream(kNoMetadata, Counter{4}, [](const std::optional<int>& item) { return *item; });
  read_all(stream);
  expect_ok(10);
}

TEST(StreamWithoutAReceiver, AsksNothingWhenTheGateIsDown) {
  auto stream = llm::pull_stream([](auto&) { FAIL(); }, Counter{4},
                                 [](const std::optional<int>&) {
                                   ADD_FAILURE();
                                   return 1;
                                 });
  int items = 0;
  while (stream.next()) ++items;
  EXPECT_EQ(items, 4);
}

TEST_F(PullStream, GoesOnWhenTheCountOfTokensThrows) {
  const Counted failures(&nopspan::Stats::metadata_failures);
  auto stream = llm::pull_stream(kNoMetadata, Counter{2},
                                 [](const std::optional<int>&) -> int { throw std::runtime_error("no tokenizer"); });
  read_all(stream);
  EXPECT_EQ(failures.times(), 2U);
  expect_ok(2);
}

TEST_F(PullStream, IsBelowTheContextInWhichItWasMade) {
  const Recorder recorder{"llm.chat.start", "llm.stream.start"};
  std::optional<llm::PullStream<Counter>> stream;
  {
    const Span chat{llm::chat};
    stream.emplace(llm::pull_stream(Counter{1}));
    EXPECT_EQ(Context::current().span_id(), id_of(chat));  // an AsyncSpan is never current
  }
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[1], IsChildOf(events[0]));
}

TEST_F(PullStream, IsConsumedOnAnotherThread) {
  auto stream = llm::pull_stream(Counter{3});
  stream.next();
  std::thread([moved = std::move(stream)]() mutable { read_all(moved); }).join();
  expect_ok(3);
}

TEST_F(PullStream, AllocatesNothingForAnItem) {
  for (const bool enabled : {true, false}) {
    std::optional<SpanRecorder> second;
    if (enabled) second.emplace("llm.stream");
    auto stream = llm::pull_stream(Counter{1000});
    stream.next();  // the first token emits an event to handlers
    const std::size_t before = allocations();
    for (int i = 1; i < 1000; ++i) stream.next();
    EXPECT_EQ(allocations(), before);
  }
  static_assert(!std::is_polymorphic_v<llm::PullStream<Counter>> && !std::is_polymorphic_v<nopspan::StreamMeter>);
}

TEST_F(OpenPull, MeasuresUntilItsOpenerReturned) {
  auto stream = llm::open_pull([](auto& m) { m.model("m"); },
                               [] {
                                 std::this_thread::sleep_for(std::chrono::milliseconds(2));
                                 return Counter{2};
                               });
  read_all(stream);
  expect_ok(2);
  EXPECT_GE(recorder_.stop()->measurement("opened_ns").as_int(), 2'000'000);
}

TEST_F(OpenPull, GivesItsSpanToAnOpenerThatTakesIt) {
  const Recorder recorder{"llm.stream.start", "http.start"};
  auto stream = llm::open_pull(kNoMetadata, [](AsyncSpan& span) {
    AsyncSpan{"http", span.context()}.end();
    return Counter{0};
  });
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[1], IsChildOf(events[0]));
}

TEST_F(OpenPull, HasWhatItsSourceSetsBeforeItReturnsTheEnd) {
  const Recorder recorder{"llm.stream.stop"};
  auto stream = llm::open_pull(kNoMetadata, [](AsyncSpan& span) {
    return [&span, source = Counter{2}]() mutable {
      auto item = source();
      if (!item) span.output_tokens(7).set("finish_reason", "stop");
      return item;
    };
  });
  read_all(stream);
  stream.span().output_tokens(8);  // too late
  EXPECT_THAT(recorder.events().at(0), AllOf(HasMetadata("output_tokens", 7), HasMetadata("finish_reason", "stop")));
}

TEST_F(OpenPull, WhoseOpenerThrowsIsAnException) {
  const auto open = []() -> Counter { throw std::runtime_error("refused"); };
  EXPECT_THROW(llm::open_pull(kNoMetadata, open), std::runtime_error);
  expect_exception("refused");
  EXPECT_THAT(recorder_.exception(), LacksMeasurement("opened_ns"));
}

TEST_F(OpenPull, KeepsASourceThatCannotBeMoved) {
  struct Pinned {
    Counter counter{1};
    Pinned() = default;
    Pinned(Pinned&&) = delete;
    std::optional<int> operator()() { return counter(); }
  };
  auto stream = llm::open_pull(kNoMetadata, [] { return Pinned(); });
  read_all(stream);
  expect_ok(1);
}

TEST_F(OpenPull, RefersToASourceThatTheOpenerRefersTo) {
  Counter source{2};
  auto stream = llm::open_pull(kNoMetadata, [&]() -> Counter& { return source; });
  stream.next();
  EXPECT_EQ(source.given, 1);
  auto owned = llm::open_pull(kNoMetadata, [&]() -> Counter&& { return std::move(source); });
  owned.next();
  EXPECT_EQ(source.given, 1);
}

TEST_F(StreamRange, EndsWhenItsSourceDoes) {
  std::vector<int> items;
  for (auto&& item : llm::stream_range([](auto& m) { m.model("m"); }, LazyRange{3})) items.push_back(item);
  EXPECT_THAT(items, ElementsAre(1, 2, 3));
  expect_ok(3);
  EXPECT_THAT(recorder_.start(), HasMetadata("model", "m"));
}

TEST_F(StreamRange, NeverReadsAheadAndLooksAtAnItemOnce) {
  LazyRange source{3};
  auto stream = llm::stream_range(source);
  EXPECT_EQ(source.at, 0);  // not even begin() was called
  for (auto&& item : stream) {
    EXPECT_EQ(source.at, item);
    EXPECT_EQ(source.looked_at, item);
  }
  EXPECT_EQ(source.looked_at, 3);
  expect_ok(3);
}

TEST_F(StreamRange, GivesReferencesToTheSourcesItems) {
  std::vector<std::string> source{"a", "b"};
  for (auto& item : llm::stream_range(source)) item += "!";
  EXPECT_THAT(source, ElementsAre("a!", "b!"));
  expect_ok(2);
}

TEST_F(StreamRange, TakesArraysConstantRangesAndEmptyOnes) {
  const int array[] = {1, 2, 3};
  int sum = 0;
  for (const int item : llm::stream_range(array)) sum += item;
  for (const int item : llm::stream_range(std::as_const(array))) sum += item;
  for (const int item : llm::stream_range(std::vector<int>())) sum += item;
  EXPECT_EQ(sum, 12);
  const auto stops = events_of(recorder_, 3, "llm.stream.stop");
  EXPECT_THAT(stops[2], AllOf(HasMeasurement("stream_tokens", 0), HasStatus(Status::ok)));
  EXPECT_THAT(stops[2], LacksMeasurement("time_to_first_token_ns"));
}

TEST_F(StreamRange, IsAbandonedByABreak) {
  for (auto&& item : llm::stream_range(LazyRange{3})) {
    if (item == 2) break;
  }
  expect_abandoned(2);
}

TEST_F(StreamRange, IsAbandonedWhenNobodyConsumesIt) {
  LazyRange source{3};
  { const auto stream = llm::stream_range(source); }
  EXPECT_EQ(source.at, 0);
  expect_abandoned(0);
}

TEST_F(StreamRange, EndsByAnExceptionOfItsSource) {
  for (const int at : {1, 2}) {  // in begin(), and between two items
    recorder_.clear();
    int items = 0;
    const auto consume = [&] {
      for (auto&& item : llm::stream_range(LazyRange{3, at})) items += item > 0;
    };
    EXPECT_THROW(consume(), std::runtime_error);
    EXPECT_EQ(items, at - 1);
    expect_exception("connection reset");
  }
}

TEST_F(StreamRange, EndsByAnExceptionOfItsConsumer) {
  const auto consume = [] {
    for (auto&& item : llm::stream_range(LazyRange{3})) throw item;
  };
  EXPECT_THROW(consume(), int);
  EXPECT_THAT(recorder_.exception(), HasStatus(Status::exception));
  EXPECT_EQ(recorder_.exception()->metadata("reason").find("type").as_string(), "unknown");
  EXPECT_THAT(recorder_.exception(), HasMeasurement("stream_tokens", 1));
}

TEST_F(StreamRange, AsksAnItemHowManyTokensItIs) {
  const auto tokens = [](int item) { return item; };
  for ([[maybe_unused]] auto&& item : llm::stream_range(kNoMetadata, LazyRange{4}, tokens)) {
  }
  expect_ok(10);
}

TEST_F(StreamRange, IsOpenedByItsOpener) {
  for ([[maybe_unused]] auto&& item : llm::open_range(kNoMetadata, [] { return LazyRange{2}; })) {
  }
  expect_ok(2);
}

TEST_F(StreamRange, AllocatesNothingForAnItem) {
  auto stream = llm::stream_range(LazyRange{1000});
  std::size_t before = 0;
  std::size_t last = 1;
  for (auto&& item : stream) {
    if (item == 1) before = allocations();
    last = allocations();
  }
  EXPECT_EQ(last, before);
}

TEST_F(PushStream, ForwardsEachItemAndCountsIt) {
  std::vector<std::string> items;
  auto stream = llm::push_stream([](auto& m) { m.model("m"); },
                                 [&](std::string item) {
                                   items.push_back(std::move(item));
                                   return items.size() < 2;
                                 });
  EXPECT_TRUE(stream("a"));
  EXPECT_FALSE(stream(std::string("b")));
  EXPECT_THAT(recorder_.names(), ElementsAre("llm.stream.start"));
  stream.end();
  EXPECT_THAT(items, ElementsAre("a", "b"));
  expect_ok(2);
}

TEST_F(PushStream, MovesAnItemOn) {
  std::unique_ptr<int> kept;
  auto stream = llm::push_stream(
      kNoMetadata, [&](std::unique_ptr<int>&& item) { kept = std::move(item); },
      [](const std::unique_ptr<int>& item) { return *item; });
  stream(std::make_unique<int>(6));
  stream.end();
  EXPECT_EQ(*kept, 6);
  expect_ok(6);
}

TEST_F(PushStream, FailsOnce) {
  auto stream = llm::push_stream([](int) {});
  stream(1);
  stream.fail("timeout");
  stream.end();
  stream(2);
  ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.stop"));
  EXPECT_THAT(recorder_.stop(), AllOf(HasStatus(Status::error), HasMetadata("response", nullptr)));
  EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", 1));
}

TEST_F(PushStream, IsAbandonedWhenDestroyedEarly) {
  {
    auto stream = llm::push_stream([](int) {});
    stream(1);
  }
  expect_abandoned(1);
}

TEST_F(PushStream, EndsByAnExceptionOfItsSink) {
  auto stream = llm::push_stream([](int) { throw std::runtime_error("broken pipe"); });
  EXPECT_THROW(stream(1), std::runtime_error);
  expect_exception("broken pipe");
}

TEST_F(PullStream, ThatAThreadExitsFromIsAnExceptionOfTheKindExit) {
  in_thread([] {
    auto stream = llm::pull_stream([]() -> std::optional<int> {
      before_forced_unwind();
      pthread_exit(nullptr);
    });
    stream.next();
  });
  ASSERT_THAT(recorder_.names(), ElementsAre("llm.stream.start", "llm.stream.exception"));
  EXPECT_THAT(recorder_.exception(), HasMetadata("kind", "exit"));
}

TEST_F(PullStream, GivesItsTokensCallableWhatAnOptionalHolds) {
  int left = 2;
  auto stream = llm::pull_stream([](auto&) {}, [&] { return left-- > 0 ? std::optional<int>(7) : std::nullopt; },
                                 [](const int& item) { return item; });
  read_all(stream);
  EXPECT_THAT(recorder_.stop(), HasMeasurement("stream_tokens", 14));
}

TEST_F(Streams, MayBeFinishedOrCancelledByTheConsumer) {
  const int items[] = {1, 2, 3};
  auto range = llm::stream_range(items);
  for (const int item : range) {
    if (item == 2) {
      range.finish();
      break;
    }
  }
  auto pulled = llm::pull_stream([&] { return &items[0]; });
  pulled.next();
  pulled.cancel("enough");
  const auto stops = events_of(recorder_, 2, "llm.stream.stop");
  EXPECT_THAT(stops[0], AllOf(HasStatus(Status::ok), HasMeasurement("stream_tokens", 2)));
  EXPECT_TRUE(stops[0]->metadata("response").exists());
  EXPECT_THAT(stops[1], AllOf(HasStatus(Status::cancelled), HasMeasurement("stream_tokens", 1)));
}

}  // namespace
