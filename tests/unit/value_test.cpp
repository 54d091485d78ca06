// SPDX-License-Identifier: Apache-2.0
// Values, and the types that become values.
#include "recorded.h"

#include <nopspan/engine.h>
#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/testing.h>

#include <array>
#include <map>
#include <optional>
#include <ratio>
#include <set>

namespace {

// ---- Value: every shape that metadata can have.

using Type = nopspan::Value::Type;

TEST(Value, KeepsTheTypeItIsMadeFrom) {
  EXPECT_EQ(Value().type(), Type::null);
  EXPECT_EQ(Value(nullptr).type(), Type::null);
  EXPECT_EQ(Value(true).type(), Type::boolean);
  EXPECT_EQ(Value('c').type(), Type::string);
  EXPECT_EQ(Value(1).type(), Type::integer);
  EXPECT_EQ(Value(1U).type(), Type::integer);
  EXPECT_EQ(Value(1.0).type(), Type::real);
  EXPECT_EQ(Value(1.0F).type(), Type::real);
  EXPECT_EQ(Value("s").type(), Type::string);
  EXPECT_EQ(Value(std::string("s")).type(), Type::string);
  EXPECT_EQ(Value(std::string_view("s")).type(), Type::string);
  EXPECT_EQ(Value::list().type(), Type::list);
  EXPECT_EQ(Value::map().type(), Type::map);
}

TEST(Value, GivesTheFallbackForAnotherType) {
  EXPECT_EQ(Value("7").as_int(1), 1);
  EXPECT_EQ(Value(7).as_string("x"), "x");
  EXPECT_EQ(Value(7).as_double(), 7.0);
  EXPECT_EQ(Value(7.5).as_int(1), 1);
  EXPECT_TRUE(Value(1).as_bool(true));
  EXPECT_FALSE(Value(1).as_bool());
  EXPECT_TRUE(Value(7).as_list().empty());
  EXPECT_TRUE(Value(7).as_map().empty());
  EXPECT_FALSE(Value(7).find("k").has_value());
}

TEST(Value, ClampsIntegersThatAreTooLarge) {
  EXPECT_EQ(Value(std::numeric_limits<std::uint64_t>::max()).as_int(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(Value(std::uint64_t{1} << 63U).as_int(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(Value((std::uint64_t{1} << 63U) - 1).as_int(), std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(Value(std::numeric_limits<std::int64_t>::min()).as_int(), std::numeric_limits<std::int64_t>::min());
}

TEST(Value, IsAMapOnceSomethingIsSet) {
  Value value(7);
  value.set("b", 1).set("a", 2).set("b", "replaced");
  EXPECT_EQ(value.to_string(), R"({"b":"replaced","a":2})");
  ASSERT_NE(value.find("a"), nullptr);
  EXPECT_EQ(value.find("a")->as_int(), 2);
  EXPECT_EQ(value.find("c"), nullptr);
  value.set("self", value);
  EXPECT_EQ(value.to_string(), R"({"b":"replaced","a":2,"self":{"b":"replaced","a":2}})");
}

TEST(Value, EqualsByTypeAndContent) {
  EXPECT_EQ(Value(1), Value(1L));
  EXPECT_NE(Value(1), Value(1.0));
  EXPECT_NE(Value(0), Value(false));
  EXPECT_NE(Value(), Value(""));
  EXPECT_EQ(Value::list({1, "a"}), Value::list({1, "a"}));
  EXPECT_NE(Value::list({1, "a"}), Value::list({"a", 1}));
  EXPECT_NE(Value::list(), Value::map());
}

TEST(Value, EqualsMapsWhateverTheirOrder) {
  EXPECT_EQ(Value::map({{"a", 1}, {"b", 2}}), Value::map({{"b", 2}, {"a", 1}}));
  EXPECT_NE(Value::map({{"a", 1}}), Value::map({{"a", 1}, {"b", 2}}));
  EXPECT_NE(Value::map({{"a", 1}, {"b", 2}}), Value::map({{"a", 1}, {"c", 2}}));
  // Equality is symmetric for maps with duplicate keys as well.
  const Value twice(Value::Map{{"a", 1}, {"a", 1}});
  const Value other = Value::map({{"a", 1}, {"b", 2}});
  EXPECT_NE(twice, other);
  EXPECT_NE(other, twice);
  const Value another(Value::Map{{"a", 1}, {"a", 2}});
  EXPECT_EQ(twice == another, another == twice);
}

TEST(Value, PrintsAsJson) {
  const Value value = Value::map({{"null", nullptr},
                                  {"bool", false},
                                  {"int", -5},
                                  {"double", 2.0},
                                  {"tiny", 1e-300},
                                  {"text", "a\"b\\c\nd\x01"},
                                  {"list", Value::list({Value::list(), Value::map()})}});
  EXPECT_EQ(value.to_string(),
            "{\"null\":null,\"bool\":false,\"int\":-5,\"double\":2.0,\"tiny\":1e-300,"
            "\"text\":\"a\\\"b\\\\c\\nd\\u0001\",\"list\":[[],{}]}");
  EXPECT_EQ(Value(std::numeric_limits<double>::infinity()).to_string(), "\"Infinity\"");
  EXPECT_EQ(Value(std::numeric_limits<double>::quiet_NaN()).to_string(), "\"NaN\"");
}

TEST(Value, CopiesAndMovesAnItemOfItselfIntoItself) {
  const Value before = Value::map({{"list", Value::list({1, Value::list({2})})}});
  Value value = before;
  value = value.as_map().front().second;
  EXPECT_EQ(value, Value::list({1, Value::list({2})}));
  value = std::move(const_cast<Value&>(value.as_list().back()));
  EXPECT_EQ(value, Value::list({2}));
}

// A program may make a Value of the arguments of a tool call, so a model or a client chooses how deep it is.
TEST(Value, MayBeAMillionLevelsDeep) {
  constexpr int kLevels = 1'000'000;
  const auto nested = [](int innermost) {
    Value value(innermost);
    for (int i = 0; i < kLevels; ++i) {
      if (i % 2 == 0) {
        Value::List list(2);
        list[0] = std::move(value);
        value = Value(std::move(list));
      } else {
        Value::Map map(1);
        map[0] = {"k", std::move(value)};
        value = Value(std::move(map));
      }
    }
    return value;
  };
  const Value value = nested(7);
  Value copy = value;
  EXPECT_TRUE(copy == value);
  const std::string text = value.to_string();
  EXPECT_EQ(text.substr(0, 13), R"({"k":[{"k":[{)");
  EXPECT_EQ(text.substr(text.size() - 14), ",null]},null]}");
  copy = 1;
  const Recorder recorder{"a.b"};
  const nopspan::Stats before = nopspan::stats();
  nopspan::execute("a.b", [&](Fields& f) { f.set("deep", value); });
  EXPECT_EQ(nopspan::stats().fields_dropped, before.fields_dropped + 1);
}

}  // namespace

namespace app {

enum class State { idle, busy };
const char* to_string(State state) { return state == State::idle ? "idle" : "busy"; }
enum class Level : std::uint8_t { low = 1, high = 255 };
enum Old { negative = -3 };
enum class Long { text };
std::string to_string(Long /*unused*/) { return "a text that does not fit into the string itself"; }
enum class Throwing { one };
std::string to_string(Throwing /*unused*/) { throw std::runtime_error("why"); }

}  // namespace app

namespace {

// ---- The types that set(), content(), measure() and Value accept, and the types of times and durations.

using namespace std::chrono_literals;
using std::chrono::steady_clock;
__extension__ using Wide = __int128;

// What a handler receives for a value, and what a Value makes of it. Both must be the same.
template <class T>
std::string both(const T& value) {
  const SpanRecorder recorder("work");
  Span{"work"}.set("key", value).content("content", value);
  const std::string set = recorder.stop()->metadata("key").copy().to_string();
  EXPECT_EQ(set, recorder.stop()->metadata("content").copy().to_string());
  EXPECT_TRUE(recorder.stop()->metadata("content").is_content());
  EXPECT_EQ(set, Value(value).to_string());
  return set;
}

TEST(ValueTypes, IncludeEnums) {
  EXPECT_EQ(both(app::State::busy), R"("busy")");
  EXPECT_EQ(both(app::Level::high), "255");
  EXPECT_EQ(both(app::negative), "-3");
  EXPECT_EQ(both(app::Long::text), R"("a text that does not fit into the string itself")");
  EXPECT_EQ(both(nopspan::Status::cancelled), R"("cancelled")");
}

TEST(ValueTypes, IncludeOptionals) {
  EXPECT_EQ(both(std::optional<int>()), "null");
  EXPECT_EQ(both(std::optional<int>(7)), "7");
  EXPECT_EQ(both(std::optional<std::string>("text")), R"("text")");
  EXPECT_EQ(both(std::optional<std::vector<app::State>>({app::State::idle})), R"(["idle"])");
}

TEST(ValueTypes, IncludeDurations) {
  EXPECT_EQ(both(5ms), "5000000");
  EXPECT_EQ(both(-2ns), "-2");
  EXPECT_EQ(both(std::chrono::duration<double>(1.5)), "1500000000");
  EXPECT_EQ(both(std::chrono::hours(1)), "3600000000000");
  EXPECT_EQ(both(std::chrono::hours::max()), std::to_string(INT64_MAX));
  EXPECT_EQ(both(std::chrono::hours::min()), std::to_string(INT64_MIN));
  EXPECT_EQ(both(std::chrono::duration<std::int64_t, std::pico>(1999)), "1");
  static_assert(nopspan::Duration(std::chrono::duration<std::int64_t, std::pico>(INT64_MAX)).count() ==
                INT64_MAX / 1000);
  static_assert(nopspan::Duration(std::chrono::duration<Wide>(Wide(1) << 70)).count() == INT64_MAX);
  static_assert(nopspan::Duration(std::chrono::duration<Wide, std::nano>(-(Wide(1) << 70))).count() == INT64_MIN);
  static_assert(nopspan::Duration(std::chrono::duration<Wide>(-2)).count() == -2'000'000'000);
  static_assert(
      nopspan::Duration(std::chrono::duration<std::int64_t, std::ratio<1, (1LL << 40)>>((1LL << 40) - 1)).count() ==
      999'999'999);
  static_assert(nopspan::Duration(std::chrono::duration<std::int64_t, std::tera>(1)).count() == INT64_MAX);
  static_assert(nopspan::Duration(std::chrono::milliseconds(INT64_MIN)).count() == INT64_MIN);
  static_assert(nopspan::Milliseconds(std::chrono::nanoseconds(INT64_MAX)).count() == INT64_MAX / 1'000'000);
  EXPECT_EQ(both(std::chrono::duration<double>(kNaN)), "0");
  EXPECT_EQ(both(std::chrono::duration<double>(kInfinity)), std::to_string(INT64_MAX));
}

TEST(ValueTypes, IncludeCharacters) {
  EXPECT_EQ(both('x'), R"("x")");
  EXPECT_EQ(both(static_cast<signed char>(120)), "120");
}

// A tree that says which Value it is, as classes of JSON do.
struct Tree {
  operator Value() const { return "tree"; }  // NOLINT(*-explicit-*)
  [[nodiscard]] std::vector<Tree>::const_iterator begin() const { return children.begin(); }
  [[nodiscard]] std::vector<Tree>::const_iterator end() const { return children.end(); }
  std::vector<Tree> children;
};

TEST(ValueTypes, IncludeRangesThatConvertToValues) {
  EXPECT_EQ(both(Tree{{Tree(), Tree()}}), R"("tree")");
  EXPECT_EQ(both(std::vector<Tree>(2)), R"(["tree","tree"])");
}

TEST(ValueTypes, IncludeCharactersAndTheirNumber) {
  const SpanRecorder recorder("work");
  char buffer[8] = "abcdef";
  { Span("work").set("buffer", buffer, 3).set("literal", "text", 2).set("null", static_cast<const char*>(nullptr), 2); }
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("buffer", "abc"), HasMetadata("literal", "te")));
  EXPECT_THAT(recorder.stop(), HasMetadata("null", nullptr));
}

TEST(ValueTypes, IncludeRanges) {
  const int array[] = {1, 2, 3};
  EXPECT_EQ(both(array), "[1,2,3]");
  EXPECT_EQ(both(std::vector<std::string>{"a", "b"}), R"(["a","b"])");
  EXPECT_EQ(both(std::vector<int>()), "[]");
  EXPECT_EQ(both(std::vector<bool>{true, false}), "[true,false]");
  EXPECT_EQ(both(std::array<double, 2>{1.5, 2.5}), "[1.5,2.5]");
  EXPECT_EQ(both(std::set<app::State>{app::State::busy}), R"(["busy"])");
  EXPECT_EQ(both(std::vector<std::optional<int>>{1, std::nullopt}), "[1,null]");
  EXPECT_EQ(both(std::vector<const char*>{"a", nullptr}), R"(["a",null])");
  EXPECT_EQ(both(std::vector<std::vector<int>>{{1}, {}, {2, 3}}), "[[1],[],[2,3]]");
  EXPECT_EQ(both(std::vector<Value>{1, "b", Value::map({{"k", 1.5}})}), R"([1,"b",{"k":1.5}])");
}

TEST(ValueTypes, IncludeRangesOfPairsAsMaps) {
  EXPECT_EQ(both(std::map<std::string, int>{{"a", 1}, {"b", 2}}), R"({"a":1,"b":2})");
  EXPECT_EQ(both(std::vector<std::pair<const char*, app::State>>{{"a", app::State::idle}}), R"({"a":"idle"})");
  EXPECT_EQ(both(Value::Map{{"a", Value::list({1})}}), R"({"a":[1]})");
}

TEST(ValueTypes, ClampIntegersInListsAndCountThem) {
  const Recorder recorder{"work.stop"};
  const Counted clamped(&nopspan::Stats::values_clamped);
  { Span("work").set("key", std::vector<std::uint64_t>{1, UINT64_MAX}); }
  EXPECT_EQ(clamped.times(), 1U);
  EXPECT_THAT(recorder.events().at(0), HasMetadata("key", Value::list({1, INT64_MAX})));
}

TEST(ValueTypes, MayBeListedInBraces) {
  const SpanRecorder recorder("work");
  Span{"work",
       [](Fields& f) {
         f.set("texts", {"a", "b"}).set("none", {});
       }}
      .set("numbers", {1, 2})
      .set("more", {std::string("c"), std::string("d")})
      .content("said", {"e"})
      .content("counts", {3, 4});
  EXPECT_THAT(recorder.stop(), HasMetadata("texts", Value::list({"a", "b"})));
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("none", Value::list()), HasMetadata("numbers", Value::list({1, 2}))));
  EXPECT_THAT(recorder.stop(), HasMetadata("more", Value::list({"c", "d"})));
  EXPECT_TRUE(recorder.stop()->metadata("said").is_content());
  EXPECT_THAT(recorder.stop(), HasMetadata("counts", Value::list({3, 4})));
}

TEST(ValueTypes, OfListsNeedNoMemoryFromTheHeap) {
  const SpanRecorder recorder("work");
  const std::vector<int> numbers(100, 7);
  const std::map<std::string, std::vector<app::State>> map{{"a", {app::State::idle}}};
  { Span("work").set("numbers", numbers).set("map", map); }  // takes the blocks that the fields need
  Span span{"work"};
  const std::size_t before = allocations();
  span.set("numbers", numbers).set("map", map);
  EXPECT_EQ(allocations(), before);
}

TEST(ValueTypes, OfListsThatDoNotFitAreDroppedAndCounted) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  const std::string half(9U << 20U, 'x');
  Span{"work"}.set("list", {1}).set("list", std::vector<std::string>{half, half}).set("after", 1);
  EXPECT_EQ(dropped.times(), 1U);
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("list", Value::list({1})), HasMetadata("after", 1)));
}

// A range of numbers without an end, except that it stops at far more than a span may have.
struct Endless {
  struct At {
    std::uint64_t number;
    std::uint64_t* read;
    std::uint64_t operator*() const { return number; }
    At& operator++() {
      *read = ++number;
      return *this;
    }
    bool operator!=(const At& other) const { return number != other.number; }
  };
  std::uint64_t* read;
  [[nodiscard]] At begin() const { return {0, read}; }
  [[nodiscard]] At end() const { return {kEnd, read}; }
  static constexpr std::uint64_t kEnd = 20'000'000;
};

TEST(ValueTypes, WithoutAnEndAreReadUpToTheLimit) {
  const SpanRecorder recorder("work");
  const Counted dropped(&nopspan::Stats::fields_dropped);
  std::uint64_t read = 0;
  std::uint64_t read_inside = 0;
  Span{"work"}.set("list", Endless{&read}).set("lists", std::vector<Endless>(2, Endless{&read_inside})).set("n", 1);
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_LT(read, Endless::kEnd);
  EXPECT_LT(read_inside, Endless::kEnd);
  EXPECT_THAT(recorder.stop(), ::testing::AllOf(LacksMetadata("list"), LacksMetadata("lists"), HasMetadata("n", 1)));
}

// Types whose conversions throw.
[[noreturn]] void fail_to_convert() { throw std::out_of_range("a value that nobody has tried"); }
struct ThrowingText {
  operator std::string_view() const { fail_to_convert(); }  // NOLINT(*-explicit-*)
};
struct ThrowingValue {
  operator Value() const { fail_to_convert(); }  // NOLINT(*-explicit-*)
};
struct ThrowingRange {
  [[nodiscard]] const int* begin() const { fail_to_convert(); }
  [[nodiscard]] const int* end() const { return nullptr; }
};
struct ThrowingOptional {
  [[nodiscard]] bool has_value() const { fail_to_convert(); }
  int operator*() const { return 1; }
};
struct ThrowingNumber {
  operator std::int64_t() const { fail_to_convert(); }  // NOLINT(*-explicit-*)
};
struct ThrowingDuration {
  using rep = std::int64_t;
  using period = std::nano;
  [[nodiscard]] rep count() const { fail_to_convert(); }
};

// These conversions run only while a tracer or handler is attached, so an exception would end programs only then.
template <class Set>
void expect_dropped(Set set) {
  const SpanRecorder recorder("work"), others("other");
  const Counted failures(&nopspan::Stats::metadata_failures);
  {
    Span span{"work"};
    span.set("before", 1);
    EXPECT_NO_THROW(set(span));
    AsyncSpan other{"other"};
    EXPECT_NO_THROW(set(other));
    span.with([&](Fields& f) {
      set(f);
      f.set("after", 2);
    });
  }
  EXPECT_EQ(failures.times(), 3U);
  EXPECT_THAT(recorder.stop(), AllOf(HasMetadata("before", 1), LacksMetadata("k"), HasMetadata("after", 2)));
}

TEST(ValueTypes, DoNotThrowIntoTheProgramThroughASetter) {
  expect_dropped([](auto& to) { to.set("k", app::Throwing::one); });
  expect_dropped([](auto& to) { to.content("k", app::Throwing::one); });
  expect_dropped([](auto& to) { to.set("k", {app::Throwing::one, app::Throwing::one}); });
  expect_dropped([](auto& to) { to.set("k", std::vector<app::Throwing>{app::Throwing::one}); });
  expect_dropped([](auto& to) { to.content("k", {app::Throwing::one}); });
  expect_dropped([](auto& to) {
    const app::Throwing row[] = {app::Throwing::one};
    to.set("k", row, 1);
  });
  expect_dropped([](auto& to) { to.set("k", ThrowingText()); });
  expect_dropped([](auto& to) { to.set("k", ThrowingValue()); });
  expect_dropped([](auto& to) { to.set("k", ThrowingRange()); });
  expect_dropped([](auto& to) { to.content("k", std::map<std::string, ThrowingRange>{{"a", {}}}); });
  expect_dropped([](auto& to) { to.set("k", ThrowingOptional()); });
  expect_dropped([](auto& to) { to.set("k", std::optional<app::Throwing>(app::Throwing::one)); });
  expect_dropped([](auto& to) { to.set("k", ThrowingDuration()); });
  expect_dropped([](auto& to) { to.measure("k", ThrowingDuration()); });
}

TEST(ValueTypes, DoNotThrowIntoTheProgramAsAGaugeOrAName) {
  const Recorder recorder{"engine.stats", "unnamed.start", "unnamed"};
  const Counted failures(&nopspan::Stats::metadata_failures);
  nopspan::gauge("waiting", ThrowingNumber());
  nopspan::gauge("waiting", ThrowingNumber(), [](nopspan::GaugeFields&) {});
  nopspan::counter("aborted", ThrowingNumber());
  EXPECT_EQ(recorder.size(), 0U);
  { const Span span{ThrowingText()}; }
  {
    const AsyncSpan span{ThrowingText(), Context(), [](Fields&) {}};
  }
  nopspan::execute(ThrowingText());
  EXPECT_EQ(failures.times(), 6U);
  EXPECT_THAT(recorder.names(), ElementsAre("unnamed.start", "unnamed.start", "unnamed"));
}

// A range that makes a span and sets a field while it is read.
struct Busy {
  Span* span;
  const int numbers[2] = {1, 2};
  [[nodiscard]] const int* begin() const {
    const Span inner{"inner"};
    span->set("meanwhile", 1);
    return numbers;
  }
  [[nodiscard]] const int* end() const { return numbers + 2; }
};

TEST(ValueTypes, MayRunAnyCodeWhileTheyAreRead) {
  const Recorder recorder{"work.stop", "inner.stop"};
  const Counted dropped(&nopspan::Stats::fields_dropped);
  {
    Span span{"work"};
    span.set("key", Busy{&span}).set("after", 1);
  }
  EXPECT_EQ(dropped.times(), 1U) << "what was set meanwhile";
  EXPECT_THAT(recorder.names(), ElementsAre("inner.stop", "work.stop"));
  const auto stop = recorder.events().at(1);
  EXPECT_THAT(stop, AllOf(HasMetadata("key", Value::list({1, 2})), LacksMetadata("meanwhile")));
  EXPECT_THAT(stop, HasMetadata("after", 1));
}

TEST(ValueTypes, ArePartOfTheUsage) {
  const SpanRecorder recorder("llm.image");
  { Span("llm.image").set("usage", std::map<std::string, int>{{"input_tokens", 5}}); }
  EXPECT_THAT(recorder.stop(), HasAttribute("gen_ai.usage.input_tokens", 5));
}

TEST(Values, OfATemporaryDoNotDangle) {
  const auto made = [] { return Value::map({{"a", Value::list({"a text that is longer than a short string"})}}); };
  std::string seen;
  for (const auto& [key, value] : made().as_map()) {
    for (const Value& item : Value(value).as_list()) seen += key + item.to_string();
  }
  EXPECT_EQ(seen, R"(a"a text that is longer than a short string")");
  const auto found = made().find("a");
  ASSERT_TRUE(found.has_value());
  EXPECT_EQ(found->as_list().size(), 1U);
  static_assert(std::is_same_v<decltype(made().as_list()), Value::List>);
}

TEST(Measurements, MayBeDurations) {
  const SpanRecorder recorder("work");
  { Span("work").measure("wait_ns", 5us); }
  EXPECT_THAT(recorder.stop(), HasMeasurement("wait_ns", 5000));
}

TEST(Setters, OfACatalogueFollowThoseOfAnyField) {
  const SpanRecorder recorder("llm.chat");
  const Context linked = Context::make();
  short_span(nopspan::llm::chat, [&](auto& m) {
    m.set("a", 1).provider("p").measure("n", 2).temperature(0.5).content("c", "x").model("m");
    m.label("tenant", "l").top_k(3).link(linked).max_tokens(4).input_tokens(5).operation("chat");
    m.set("list", {"a"}).seed(6).engine("e").tenant("t").stream(true);
  });
  EXPECT_EQ(recorder.start()->link_count(), 1U);
  EXPECT_EQ(recorder.start()->metadata().size(), 14U + 3U);
  EXPECT_THAT(recorder.start(), HasMeasurement("n", 2));
}

TEST(Setters, OfFieldsAreThoseOfSpansToo) {
  const Recorder recorder{"work.stop"};
  const Context linked = Context::make();
  {
    Span span{"work"};
    span.set("a", 1).label("tenant", "t").content("c", "x").input_tokens(3).link(linked).measure("m", 4);
    AsyncSpan child{"work", span};
    child.model("small").set("b", 2).link(span).end();
  }
  const auto events = events_of(recorder, 2);
  EXPECT_THAT(events[0], HasMetadata("model", "small"));
  EXPECT_EQ(events[0]->context().label("tenant"), "t");
  EXPECT_EQ(events[0]->links()[0].span_id, events[1]->span_id());
  EXPECT_THAT(events[1], HasMetadata("c", "x"));
  EXPECT_EQ(events[1]->link_count(), 1U);
}

TEST(Time, IsThatOfTheSteadyClock) {
  const auto before = steady_clock::now();
  const std::uint64_t now = nopspan::now_ns();
  const auto after = steady_clock::now();
  EXPECT_LE(nopspan::Time(before).ns(), now);
  EXPECT_LE(now, nopspan::Time(after).ns());
  EXPECT_EQ(nopspan::Time().ns(), 0U);
  EXPECT_EQ(nopspan::Time(steady_clock::time_point(5us)).ns(), 5000U);
}

TEST(Time, OfTheSteadyClockIsTakenEverywhere) {
  const Recorder recorder{"work.start", "work.stop", "engine.request.stop"};
  const steady_clock::time_point start = steady_clock::now() - 5s;
  nopspan::complete("work", {}, start, 250us);
  Span{"work", {nopspan::SpanKind::client, start}}.end_at(start + 7ns);
  AsyncSpan request{nopspan::engine::request, {}, {nopspan::SpanKind::server, start}, [&](auto& m) {
                      m.arrival_ns(start - 1ms).queue_ns(1ms).prefill_ns(2us).decode_ns(3);
                    }};
  request.end_at(start + 1s);
  request.end();
  const auto events = events_of(recorder, 5);
  const auto start_ns = static_cast<std::int64_t>(nopspan::Time(start).ns());
  EXPECT_EQ(events[0]->monotonic_time_ns(), start_ns);
  EXPECT_EQ(events[1]->duration_ns(), 250'000);
  EXPECT_EQ(events[2]->monotonic_time_ns(), start_ns);
  EXPECT_EQ(events[3]->duration_ns(), 7);
  EXPECT_EQ(events[4]->duration_ns(), 1'000'000'000);
  EXPECT_THAT(events[4], AllOf(HasMetadata("arrival_ns", start_ns - 1'000'000), HasMeasurement("queue_ns", 1'000'000)));
  EXPECT_THAT(events[4], AllOf(HasMeasurement("prefill_ns", 2000), HasMeasurement("decode_ns", 3)));
}

TEST(Time, OfADurationThatIsNegativeIsZero) {
  const Recorder recorder{"work.stop"};
  nopspan::complete("work", {}, nopspan::now_ns(), -5ms);
  nopspan::complete("work", {}, nopspan::now_ns(), UINT64_MAX);
  EXPECT_EQ(recorder.events().at(0)->duration_ns(), 0);
  EXPECT_EQ(recorder.events().at(1)->duration_ns(), INT64_MAX);
}

TEST(Milliseconds, MayBeDurations) {
  const Recorder recorder{"llm.adapter.retry"};
  nopspan::llm::retry([](auto& r) { r.delay_ms(2s); });
  nopspan::llm::retry([](auto& r) { r.delay_ms(500); });
  EXPECT_THAT(recorder.events().at(0), HasMetadata("delay_ms", 2000));
  EXPECT_THAT(recorder.events().at(1), HasMetadata("delay_ms", 500));
}

TEST(SpanParents, MayBeSpans) {
  const Recorder recorder{"work.start", "point"};
  {
    const Span span{"work", nopspan::SpanKind::server};
    AsyncSpan child{"work", span};
    const AsyncSpan grandchild{"work", child, nopspan::SpanKind::client, [](Fields& f) { f.set("k", 1); }};
    nopspan::complete("work", grandchild, nopspan::now_ns(), 1);
    nopspan::execute(child, "point");
    const ContextScope scope{child};
    const Span inner{"work"};
  }
  const auto starts = events_of(recorder, 5, "work.start");
  for (int i = 1; i < 4; ++i) EXPECT_THAT(starts[i], IsChildOf(starts[i - 1]));
  EXPECT_EQ(kind_of(starts[0]), nopspan::SpanKind::server);
  EXPECT_EQ(kind_of(starts[2]), nopspan::SpanKind::client);
  EXPECT_THAT(starts[4], IsChildOf(starts[1]));
  EXPECT_EQ(recorder.events("point").at(0)->span_id(), starts[1]->span_id());
}

TEST(SpanParents, ThatAreNotRecordedGiveTheContextOfTheThread) {
  const Span unrecorded{"work"};
  const Context request = Context::make();
  const ContextScope scope{request};
  const Recorder recorder{"work.start"};
  { const AsyncSpan child{"work", unrecorded}; }
  EXPECT_EQ(recorder.events().at(0)->request_id(), std::string(request.request_id()));
}

TEST(AsyncSpans, WithoutAParentTakeOptionsAndMetadata) {
  const Recorder recorder{"work.start"};
  const auto metadata = [](Fields& f) { f.set("k", 1); };
  const Span current{"other"};
  {
    const AsyncSpan one{"work", metadata};
    const AsyncSpan two{"work", nopspan::SpanKind::client};
    const AsyncSpan three{"work", nopspan::SpanOptions(nopspan::SpanKind::client, 1000), metadata};
  }
  const auto starts = events_of(recorder, 3);
  for (const auto& start : starts) EXPECT_EQ(start->parent_id(), 0U);
  EXPECT_THAT(starts[0], HasMetadata("k", 1));
  EXPECT_EQ(kind_of(starts[0]), nopspan::SpanKind::internal);
  EXPECT_EQ(kind_of(starts[1]), nopspan::SpanKind::client);
  EXPECT_EQ(kind_of(starts[2]), nopspan::SpanKind::client);
  EXPECT_EQ(starts[2]->monotonic_time_ns(), 1000);
  EXPECT_THAT(starts[2], HasMetadata("k", 1));
}

TEST(Closures, ForwardTheirArguments) {
  const auto answer = [] { return 42; };
  EXPECT_EQ(
      nopspan::span("work",
                    [&](auto&&... arguments) -> decltype(answer(std::forward<decltype(arguments)>(arguments)...)) {
                      return answer(std::forward<decltype(arguments)>(arguments)...);
                    }),
      42);
  const auto use = [](Span& span) { span.set("k", 1); };
  const SpanRecorder recorder("work");
  nopspan::span("work", [&](auto&&... arguments) { use(std::forward<decltype(arguments)>(arguments)...); });
  EXPECT_THAT(recorder.stop(), HasMetadata("k", 1));
}

TEST(Closures, TakeOptions) {
  const SpanRecorder recorder("work");
  nopspan::span("work", nopspan::SpanOptions(nopspan::SpanKind::client, 1000), [](Span& span) { span.set("k", 1); });
  nopspan::span(
      "work", nopspan::SpanKind::server, [](Fields& f) { f.set("k", 2); }, [] {});
  EXPECT_EQ(recorder.start()->monotonic_time_ns(), 1000);
  EXPECT_THAT(recorder.stop(), HasMetadata("k", 1));
  EXPECT_THAT(recorder.events("work.start").at(1), HasMetadata("k", 2));
  EXPECT_EQ(kind_of(recorder.events("work.start").at(0)), nopspan::SpanKind::client);
  EXPECT_EQ(kind_of(recorder.events("work.start").at(1)), nopspan::SpanKind::server);
}

}  // namespace
