// SPDX-License-Identifier: Apache-2.0
// The bytes of a JsonWriter are those of nlohmann's library.
#include "base/json_writer.h"

#include "parsed_json.h"

#include <limits>
#include <random>
#include <string>

namespace nopspan::collector {
namespace {

using Json = nlohmann::ordered_json;

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string written(std::string_view text) {
  JsonWriter json;
  json.text(text);
  return std::string(json.text());
}

TEST(JsonWriter, WritesAnyTextAsTheLibraryDoes) {
  for (unsigned byte = 0; byte < 256; ++byte) {
    for (std::size_t before : {0, 3, 7, 8, 13}) {
      const std::string text = std::string(before, 'a') + static_cast<char>(byte) + "bcdefgh";
      EXPECT_EQ(written(text), dumped(text));
    }
  }
  std::mt19937 random(1);
  constexpr std::string_view kPieces[] = {"a", "abcdefghij", "\"", "\\",       "\n",   "\x01",     "\x7f",
                                          "ä", "€",          "😀",  "\xe2\x82", "\xff", "\xf0\x9f", "\xc0"};
  for (int i = 0; i < 10'000; ++i) {
    std::string text;
    for (std::size_t n = random() % 8; n > 0; --n) text += kPieces[random() % std::size(kPieces)];
    ASSERT_EQ(written(text), dumped(text));
  }
}

TEST(JsonWriter, WritesNumbersAsTheLibraryDoes) {
  JsonWriter json;
  json.begin_array();
  json.number(std::uint64_t{0});
  json.number(std::numeric_limits<std::uint64_t>::max());
  json.number(std::numeric_limits<std::int64_t>::min());
  json.end_array();
  EXPECT_EQ(parsed(json).size(), 3U);
}

TEST(JsonWriter, SeparatesWhatItWrites) {
  JsonWriter json;
  json.begin_object();
  json.id("id", 0x1234567890abcdefU);
  json.key_text("a \"key\"");
  json.begin_array();
  json.begin_object();
  json.end_object();
  json.hex("\x01\xff");
  json.literal("null");
  json.end_array();
  json.text_unless_empty("none", "");
  json.number("last", std::uint64_t{1});
  json.end_object();
  json.end_document();
  json.begin_array();
  json.end_array();
  EXPECT_EQ(json.text(), R"({"id":"1234567890abcdef","a \"key\"":[{},"01ff",null],"last":1})"
                         "\n[]");
}

TEST(JsonWriter, GrowsAndCanBeUsedAgain) {
  JsonWriter json;
  const std::string large(3'000'000, '"');
  for (int i = 0; i < 2; ++i) {
    json.text(large);
    EXPECT_EQ(json.text(), dumped(large));
    json.clear();
    EXPECT_EQ(json.text(), "");
  }
}

}  // namespace
}  // namespace nopspan::collector
