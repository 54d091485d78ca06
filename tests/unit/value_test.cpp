// SPDX-License-Identifier: Apache-2.0
// Value: every shape that metadata can have.
#include "recorded.h"

#include <nopspan/event.h>
#include <nopspan/execute.h>
#include <nopspan/stats.h>
#include <nopspan/testing.h>

#include <cstdint>
#include <limits>
#include <string>

namespace {

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

TEST(Value, CopiesAndMoves) {
  Value original = Value::map({{"list", Value::list({1, 2})}});
  const Value copy = original;
  const Value moved = std::move(original);
  EXPECT_EQ(copy, moved);
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
