// SPDX-License-Identifier: Apache-2.0
#include "command/options.h"

#include <gtest/gtest.h>
#include <CLI/CLI.hpp>

#include <cstdint>
#include <string>

namespace nopspan::collector {
namespace {

// Of `--value=TEXT`. Throws CLI::ParseError.
std::uint64_t parsed(decltype(add_duration_option) add_option, const std::string& text) {
  CLI::App app;
  std::uint64_t value = 0;
  add_option(app, "--value", value, "");
  app.parse("--value='" + text + "'");
  return value;
}
std::uint64_t duration(const std::string& text) { return parsed(add_duration_option, text); }
std::uint64_t bytes(const std::string& text) {
  const auto add = [](CLI::App& app, const std::string& name, std::uint64_t& value, const std::string& what) {
    return add_bytes_option(app, name, value, what);
  };
  return parsed(add, text);
}

TEST(DurationOption, KnowsUnits) {
  EXPECT_EQ(duration("7"), 7'000'000'000U);
  EXPECT_EQ(duration("12ns"), 12U);
  EXPECT_EQ(duration("10us"), 10'000U);
  EXPECT_EQ(duration("10µs"), 10'000U);
  EXPECT_EQ(duration("250ms"), 250'000'000U);
  EXPECT_EQ(duration("1.5s"), 1'500'000'000U);
  EXPECT_EQ(duration("3.41 ms"), 3'410'000U);
  EXPECT_EQ(duration("2m"), 120'000'000'000U);
  EXPECT_EQ(duration("2min"), 120'000'000'000U);
  EXPECT_EQ(duration("1h"), 3'600'000'000'000U);
  EXPECT_EQ(duration("1d"), 86'400'000'000'000U);
  EXPECT_EQ(duration("0"), 0U);
}

TEST(DurationOption, KeepsEachDigit) {
  EXPECT_EQ(duration("1234567us"), 1'234'567'000U);
  EXPECT_EQ(duration("99999999ns"), 99'999'999U);
  EXPECT_EQ(duration("1.234567891s"), 1'234'567'891U);
  EXPECT_EQ(duration("9007199254740991ns"), 9'007'199'254'740'991U);
}

TEST(DurationOption, RefusesTheRest) {
  for (const char* text : {"", "ms", "-1s", "1x", "+1s", " 1s", "0x10", "1s2", "x1s", "1..5s", ".", "inf", "nan",
                           "1 s s", "2m05s", "250Ms", "10000000000", "99999999999999999999d", "1e999s"}) {
    EXPECT_THROW(duration(text), CLI::ParseError) << text;
  }
  try {
    duration("soon");
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_STREQ(error.what(),
                 "--value: \"soon\" is not a time: use a number with a unit (ns, us, ms, s, m, h, d), such as 250ms");
  }
  try {
    duration("-1s");
    FAIL();
  } catch (const CLI::ParseError& error) {
    EXPECT_STREQ(error.what(), "--value: \"-1s\" is not between 0s and 104166d");
  }
}

TEST(BytesOption, KnowsUnitsOf1024) {
  EXPECT_EQ(bytes("4096"), 4096U);
  EXPECT_EQ(bytes("64K"), 65536U);
  EXPECT_EQ(bytes("64k"), 65536U);
  EXPECT_EQ(bytes("64KiB"), 65536U);
  EXPECT_EQ(bytes("16MB"), 16U << 20U);
  EXPECT_EQ(bytes("1GiB"), 1U << 30U);
  EXPECT_EQ(bytes("4097 B"), 4097U);
}

TEST(BytesOption, RefusesTheRest) {
  for (const char* text : {"", "-1", "12", "-1M", "15E", "1Q", "1KiBs", "1M1K", "1 M M", "99999999999T", "1.5G"}) {
    EXPECT_THROW(bytes(text), CLI::ParseError) << text;
  }
}

}  // namespace
}  // namespace nopspan::collector
