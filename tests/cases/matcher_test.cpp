// SPDX-License-Identifier: Apache-2.0
// The matchers: the values that each must accept and must refuse.
#include "matcher.h"

#include <gtest/gtest.h>

#include <string>

namespace cases {
namespace {

Json json(const char* text) { return Json::parse(text); }

bool matches(const char* expected, const char* seen) {
  Comparison comparison;
  comparison.add("it", json(expected), json(seen));
  Bindings bindings;
  return comparison.mismatches(bindings).empty();
}

std::vector<Comparison::Seen> seen(const char* list) {
  std::vector<Comparison::Seen> items;
  for (const Json& item : json(list)) {
    items.emplace_back([item](const Json&) { return item; });
  }
  return items;
}

TEST(Matcher, TakesALiteralForItself) {
  EXPECT_TRUE(matches(R"({"a":[1,"x",null,true,1.5]})", R"({"a":[1,"x",null,true,1.5]})"));
  EXPECT_FALSE(matches("1", "2"));
  EXPECT_FALSE(matches("null", "0"));
  EXPECT_FALSE(matches("[1,2]", "[2,1]"));
  EXPECT_FALSE(matches("[1]", "[1,2]"));
  EXPECT_FALSE(matches("[]", "{}"));
}

TEST(Matcher, KeepsIntegersAndDoublesApart) {
  EXPECT_FALSE(matches("1", "1.0"));
  EXPECT_FALSE(matches("1.0", "1"));
  EXPECT_FALSE(matches(R"({"a":1})", R"({"a":1.0})"));
}

TEST(Matcher, TakesAMapInAnyOrderAndNoOtherKeys) {
  EXPECT_TRUE(matches(R"({"a":1,"b":2})", R"({"b":2,"a":1})"));
  EXPECT_FALSE(matches(R"({"a":1})", R"({"a":1,"b":null})"));
  EXPECT_FALSE(matches(R"({"a":1,"b":null})", R"({"a":1})"));
}

TEST(Matcher, KnowsIntegersListsAndNumbers) {
  EXPECT_TRUE(matches(R"({"$type":"int"})", "-1"));
  EXPECT_FALSE(matches(R"({"$type":"int"})", "1.0"));
  EXPECT_TRUE(matches(R"({"$list":"any"})", R"([1,"x"])"));
  EXPECT_FALSE(matches(R"({"$list":"any"})", "{}"));
  EXPECT_TRUE(matches(R"({"$ge":0})", "0"));
  EXPECT_FALSE(matches(R"({"$ge":0})", "-1"));
  EXPECT_FALSE(matches(R"({"$ge":0})", R"("1")"));
  EXPECT_TRUE(matches(R"({"a":{"$any":true}})", R"({"a":null})"));
  EXPECT_FALSE(matches(R"({"a":{"$any":true}})", "{}"));
}

TEST(Matcher, NeedsAllOfSeveral) {
  EXPECT_TRUE(matches(R"({"$type":"int","$ge":3})", "3"));
  EXPECT_FALSE(matches(R"({"$type":"int","$ge":3})", "3.5"));
  EXPECT_FALSE(matches(R"({"$type":"int","$ge":3})", "2"));
}

TEST(Matcher, ComparesWithACapture) {
  EXPECT_TRUE(matches(R"([{"$bind":"x"},{"$same":"x"}])", R"(["a","a"])"));
  EXPECT_FALSE(matches(R"([{"$bind":"x"},{"$same":"x"}])", R"(["a","b"])"));
}

TEST(Matcher, SubtractsCapturesMadeLater) {
  EXPECT_TRUE(matches(R"([{"$expr":"t1 - t0","$ge":0},{"$bind":"t0"},{"$bind":"t1"}])", "[3,4,7]"));
  EXPECT_FALSE(matches(R"([{"$expr":"t1 - t0"},{"$bind":"t0"},{"$bind":"t1"}])", "[4,4,7]"));
  EXPECT_FALSE(matches(R"([{"$expr":"t1 - t0"},{"$bind":"t0"},{"$bind":"t1"}])", "[3,4.0,7]"));
  EXPECT_FALSE(matches(R"([{"$expr":"t1 - t0"},{"$bind":"t0"},{"$bind":"t1"}])", "[3,4]"));
}

TEST(Matcher, KeepsCapturesForTheNextComparison) {
  Bindings bindings;
  Comparison first;
  first.add("it", json(R"({"$bind":"x"})"), 7);
  EXPECT_TRUE(first.mismatches(bindings).empty());
  Comparison second;
  second.add("it", json(R"({"$same":"x"})"), 8);
  EXPECT_FALSE(second.mismatches(bindings).empty());
}

TEST(Matcher, FindsAListInAnyOrderTogetherWithItsCaptures) {
  Bindings bindings;
  Comparison found;
  found.add_in_any_order("list", json(R"([{"k":"a","v":{"$bind":"v"}},{"k":"b","v":{"$same":"v"}}])"),
                         seen(R"([{"k":"b","v":1},{"k":"a","v":1}])"));
  EXPECT_TRUE(found.mismatches(bindings).empty());
  Comparison differs;
  differs.add_in_any_order("list", json(R"([{"k":"a"},{"k":"a"}])"), seen(R"([{"k":"a"},{"k":"b"}])"));
  EXPECT_FALSE(differs.mismatches(bindings).empty());
  Comparison shorter;
  shorter.add_in_any_order("list", json(R"([{"k":"a"}])"), seen(R"([{"k":"a"},{"k":"a"}])"));
  EXPECT_FALSE(shorter.mismatches(bindings).empty());
}

TEST(Matcher, SaysWhereItDiffers) {
  Comparison comparison;
  comparison.add("it", json(R"({"a":[{"b":1}]})"), json(R"({"a":[{"b":2}]})"));
  Bindings bindings;
  EXPECT_EQ(comparison.mismatches(bindings), Mismatches{"it.a[0].b: expected 1, but is 2"});
}

TEST(Matcher, RefusesWhatItDoesNotKnow) {
  for (const char* unknown : {R"({"$frobnicate":1})", R"({"$type":"complex"})", R"({"$type":"int","a":1})",
                              R"({"$same":"nowhere"})", R"({"$expr":"t1"})", R"({"$expr":"a - b"})",
                              R"({"$any":false})", R"({"$list":"int"})", R"([{"$bind":"x"},{"$bind":"x"}])"}) {
    EXPECT_THROW(matches(unknown, "[1,2]"), Inexpressible) << unknown;
  }
}

TEST(Matcher, RefusesAnUnknownMatcherThatItWouldNotReach) {
  EXPECT_THROW(matches(R"([1,{"$frobnicate":1}])", "[1]"), Inexpressible);
}

}  // namespace
}  // namespace cases
