// SPDX-License-Identifier: Apache-2.0
// The price table: what it accepts, what it refuses, and what a usage costs.
#include "recorded.h"

#include <nopspan/genai.h>

namespace {

using nopspan::genai::PriceTable;

// A table with one model, "m".
PriceTable table_of(const std::string& prices, const std::string& unit = "per_token") {
  PriceTable table;
  std::string error;
  EXPECT_TRUE(table.parse(R"({"unit": ")" + unit + R"(", "models": {"m": )" + prices + "}}", error)) << error;
  return table;
}

Value tokens(std::initializer_list<Value::Map::value_type> counts) { return Value::map(counts); }

// The costs that the table adds to a usage, as "input output reasoning total". "-" stands for a missing cost.
std::string costs(const PriceTable& table, const Value& usage) {
  const Value priced = table.with_costs(usage, "m");
  std::string text;
  for (const char* key : {"input_cost", "output_cost", "reasoning_cost", "total_cost"}) {
    const Value* cost = priced.find(key);
    if (!text.empty()) text += ' ';
    text += cost == nullptr ? "-" : cost->to_string();
  }
  return text;
}

std::string refusal(std::string_view json) {
  PriceTable table;
  std::string error;
  EXPECT_FALSE(table.parse(json, error)) << json;
  EXPECT_TRUE(table.empty()) << json;
  return error;
}

std::string refused_model(const std::string& prices) {
  return refusal(R"({"unit": "per_token", "models": {"m": )" + prices + "}}");
}

TEST(Prices, AreOfTheUnitThatTheTableNames) {
  const Value usage = tokens({{"input_tokens", 1000000}, {"output_tokens", 500000}});
  EXPECT_EQ(costs(table_of(R"({"input": 1.25, "output": 10})", "per_million_tokens"), usage), "1.25 5.0 - 6.25");
  EXPECT_EQ(costs(table_of(R"({"input": 1.25, "output": 10})", "per_thousand_tokens"), usage),
            "1250.0 5000.0 - 6250.0");
  EXPECT_EQ(costs(table_of(R"({"input": 1, "output": 2})"), usage), "1e+06 1e+06 - 2e+06");
}

TEST(Prices, ReadBothShapesOfUsage) {
  const PriceTable table = table_of(R"({"input": 1, "output": 10})");
  EXPECT_EQ(costs(table, tokens({{"tokens", tokens({{"input", 3}, {"output", 2}})}})), "3.0 20.0 - 23.0");
  EXPECT_EQ(costs(table, tokens({{"tokens", 5}, {"input_tokens", 3}})), "3.0 - - 3.0");
}

TEST(Prices, ChargeCachedInputApart) {
  const PriceTable table = table_of(R"({"input": 10, "cached_input": 1, "cache_creation": 100})");
  const auto usage = [](Value cached, Value written) {
    return tokens({{"input_tokens", 10},
                   {"cache_read_input_tokens", std::move(cached)},
                   {"cache_creation_input_tokens", std::move(written)}});
  };
  EXPECT_EQ(costs(table, usage(4, 2)), "244.0 - - 244.0");
  EXPECT_EQ(costs(table, usage(nullptr, nullptr)), "100.0 - - 100.0");
  EXPECT_EQ(costs(table, usage(12, 2)), "10.0 - - 10.0");    // at most 10 tokens can be cached
  EXPECT_EQ(costs(table, usage(4, 12)), "604.0 - - 604.0");  // only 6 of the 10 remain
  EXPECT_EQ(costs(table, usage(-4, -2)), "100.0 - - 100.0");
  EXPECT_EQ(costs(table_of(R"({"input": 10})"), usage(4, 2)), "100.0 - - 100.0");
}

TEST(Prices, ChargeReasoningAsOutputUnlessItHasAPrice) {
  const Value usage = tokens({{"output_tokens", 10}, {"reasoning_tokens", 4}});
  EXPECT_EQ(costs(table_of(R"({"output": 1})"), usage), "- 10.0 - 10.0");
  EXPECT_EQ(costs(table_of(R"({"output": 1, "reasoning": 10})"), usage), "- 6.0 40.0 46.0");
  EXPECT_EQ(costs(table_of(R"({"output": 1, "reasoning": 0})"), usage), "- 6.0 0.0 6.0");
  const Value more = tokens({{"output_tokens", 10}, {"reasoning_tokens", 40}});
  EXPECT_EQ(costs(table_of(R"({"output": 1, "reasoning": 10})"), more), "- 0.0 100.0 100.0");
  const Value unknown = tokens({{"output_tokens", 10}, {"reasoning_tokens", -4}});
  EXPECT_EQ(costs(table_of(R"({"output": 1, "reasoning": 10})"), unknown), "- 10.0 - 10.0");
}

TEST(Prices, LetCostsStandThatAreThere) {
  const PriceTable table = table_of(R"({"input": 1, "output": 10})");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"output_tokens", 2}, {"input_cost", 0.5}})), "0.5 20.0 - 20.5");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"total_cost", 7}})), "3.0 - - 7");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"input_cost", "free"}})), "\"free\" - - -");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"input_cost", nullptr}})), "3.0 - - 3.0");
  // Reasoning tokens that already have a cost are not charged again as output.
  EXPECT_EQ(costs(table, tokens({{"output_tokens", 3}, {"reasoning_tokens", 1}, {"reasoning_cost", 5.0}})),
            "- 20.0 5.0 25.0");
}

TEST(Prices, MakeATotalOnlyOfEverythingThatWasCounted) {
  const PriceTable table = table_of(R"({"input": 1})");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"output_tokens", 2}})), "3.0 - - -");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 3}, {"output_tokens", 0}})), "3.0 - - 3.0");
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 0}})), "0.0 - - 0.0");
}

TEST(Prices, AddNothingForWhatIsNotKnown) {
  const PriceTable table = table_of(R"({"input": 1, "output": 10})");
  const Value usage = tokens({{"input_tokens", 3}});
  for (const char* model : {"", "M", "m ", "l", "n"}) EXPECT_EQ(table.with_costs(usage, model), usage) << model;
  EXPECT_EQ(table.with_costs(usage, nullptr), usage);
  EXPECT_EQ(PriceTable().with_costs(usage, "m"), usage);
  for (const Value& odd : {Value(), Value(5), Value("usage"), Value::list({usage}), Value::map()}) {
    EXPECT_EQ(table.with_costs(odd, "m"), odd);
  }
  for (const Value& odd : {Value(-3), Value(3.0), Value("3"), Value(std::numeric_limits<std::int64_t>::min())}) {
    EXPECT_EQ(costs(table, tokens({{"input_tokens", odd}, {"output_tokens", 1}})), "- 10.0 - 10.0");
  }
}

TEST(Prices, NeverMakeACostThatIsNotFinite) {
  const Value usage = tokens({{"input_tokens", std::numeric_limits<std::int64_t>::max()}, {"output_tokens", 1}});
  EXPECT_EQ(costs(table_of(R"({"input": 1e300, "output": 1})"), usage), "- 1.0 - -");
}

TEST(Prices, AreFoundAmongManyModels) {
  std::string json;
  for (int i = 999; i >= 0; --i) {
    json += (json.empty() ? "\"m" : ", \"m") + std::to_string(i) + R"(": {"input": )" + std::to_string(i) + "}";
  }
  PriceTable table;
  std::string error;
  ASSERT_TRUE(table.parse(R"({"models": {)" + json + R"(}, "unit": "per_token"})", error)) << error;
  for (int i = 0; i < 1000; ++i) {
    EXPECT_EQ(*table.with_costs(tokens({{"input_tokens", 1}}), "m" + std::to_string(i)).find("input_cost"), double(i));
  }
}

TEST(Prices, StayWhatTheyWereAfterARefusal) {
  PriceTable table = table_of(R"({"input": 2})");
  std::string error = "old";
  EXPECT_FALSE(table.parse("{", error));
  EXPECT_EQ(costs(table, tokens({{"input_tokens", 1}})), "2.0 - - 2.0");
  EXPECT_TRUE(table.parse(R"({"unit": "per_token", "models": {}})", error));
  EXPECT_EQ(error, "");
  EXPECT_TRUE(table.empty());
}

TEST(Prices, AreRefusedWithTheirPlace) {
  EXPECT_EQ(refused_model(R"({"input": -1})"), "models.m.input: a price must be a number that is not negative");
  EXPECT_EQ(refused_model(R"({"output": "1"})"), "models.m.output: a price must be a number that is not negative");
  EXPECT_EQ(refused_model(R"({"output": null})"), "models.m.output: a price must be a number that is not negative");
  EXPECT_EQ(refused_model(R"({"output": [1]})"), "models.m.output: a price must be a number that is not negative");
  EXPECT_EQ(refused_model(R"({"inptu": 1})"), "models.m.inptu: not a known price");
  EXPECT_EQ(refused_model(R"({"input": 1, "input": 1})"), "models.m.input: duplicate key");
  EXPECT_EQ(refused_model(R"({}, "m": {})"), "models.m: duplicate key");
  EXPECT_EQ(refused_model("1"), "models.m: not an object");
  EXPECT_EQ(refused_model(R"({"cached_input": 1})"), "models.m: a price of cached input needs a price of input");
  EXPECT_EQ(refused_model(R"({"reasoning": 1})"), "models.m: a price of reasoning needs a price of output");
  EXPECT_EQ(refusal(R"({"unit": "per_token", "models": []})"), "models: not an object");
  EXPECT_EQ(refusal(R"({"unit": "per_word", "models": {}})"),
            "unit: not per_million_tokens, per_thousand_tokens or per_token");
  EXPECT_EQ(refusal(R"({"unit": 1, "models": {}})"), "unit: not per_million_tokens, per_thousand_tokens or per_token");
  EXPECT_EQ(refusal(R"({"models": {}})"), "unit: missing");
  EXPECT_EQ(refusal(R"({"unit": "per_token"})"), "models: missing");
  EXPECT_EQ(refusal(R"({"unit": "per_token", "models": {}, "currency": "EUR"})"), "currency: not a known key");
  EXPECT_EQ(refusal("[]"), "not an object");
  EXPECT_EQ(refusal("1"), "not an object");
}

TEST(Prices, AreRefusedInOneLineThatCanBeRead) {
  EXPECT_EQ(refused_model(R"({"a\n\u001b[2J\u0085\u2028b": 1})"), "models.m.a??[2J??b: not a known price");
  EXPECT_EQ(refused_model("{\"\\n\": " + std::string(100, '[')), "models.m.?.....: nested too deeply");
  EXPECT_LT(refused_model("{\"" + std::string(1U << 20U, 'x') + "\": 1}").size(), 300U);
}

TEST(Prices, AreRefusedWhereTheyAreNotJson) {
  EXPECT_EQ(refusal("{\"unit\": \"per_token\",\n  models}"), "line 2, column 3: not valid JSON");
  EXPECT_EQ(refusal(""), "line 1, column 1: not valid JSON");
  EXPECT_EQ(refusal({}), "line 1, column 1: not valid JSON");
  for (const char* odd : {"{", "{}x", "{\"a\":}", "nul", "{\"a\": NaN}", "{\"a\": 1e999}", "{\"a\": -1e999}",
                          "{'a': 1}", "{\"a\": \"\xff\"}", "{\"a\": 01}", "// prices\n{}", "{\"a\": 1,}"}) {
    EXPECT_NE(refusal(odd).find("not valid JSON"), std::string::npos) << odd;
  }
  EXPECT_EQ(refused_model(R"({"input": )" + std::string(100000, '[')), "models.m.input.....: nested too deeply");
}

}  // namespace
