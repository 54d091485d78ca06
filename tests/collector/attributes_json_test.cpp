// SPDX-License-Identifier: Apache-2.0
// Decoding of attributes: bytes that a library writes, and arbitrary bytes.
#include "model/entry_json.h"

#include "parsed_json.h"

#include <gmock/gmock.h>
#include <protozero/pbf_writer.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace nopspan::collector {
namespace {

using protozero::pbf_writer;

// Encodes a KeyValue for field 9. `write` encodes its AnyValue.
std::string attribute(const std::string& key, const std::function<void(pbf_writer&)>& write, unsigned field = 9) {
  std::string bytes;
  pbf_writer message(bytes);
  pbf_writer key_value(message, field);
  key_value.add_string(1, key);
  pbf_writer value(key_value, 2);
  write(value);
  value.commit();
  key_value.commit();
  return bytes;
}

std::string text_pair(const std::string& key, const std::string& text) {
  return attribute(key, [&](pbf_writer& value) { value.add_string(1, text); });
}

std::string decoded(const std::string& bytes, bool* malformed_out = nullptr) {
  bool malformed = false;
  const auto json = attributes_json(bytes, kSpanAttributes, malformed);
  if (malformed_out != nullptr) *malformed_out = malformed;
  EXPECT_TRUE(malformed_out != nullptr || !malformed);
  return json.dump();
}

TEST(AttributesJson, IsAnEmptyObjectWithoutAny) { EXPECT_EQ(decoded(""), "{}"); }

TEST(AttributesJson, KeepsTypesAndOrder) {
  const std::string bytes =
      text_pair("text", "a \"b\"") + attribute("yes", [](pbf_writer& v) { v.add_bool(2, true); }) +
      attribute("no", [](pbf_writer& v) { v.add_bool(2, false); }) +
      attribute("least", [](pbf_writer& v) { v.add_int64(3, std::numeric_limits<std::int64_t>::min()); }) +
      attribute("half", [](pbf_writer& v) { v.add_double(4, 0.5); }) +
      attribute("whole", [](pbf_writer& v) { v.add_double(4, 2); }) + attribute("nothing", [](pbf_writer&) {}) +
      attribute("bytes", [](pbf_writer& v) { v.add_bytes(7, std::string("\0\xff", 2)); });
  EXPECT_EQ(decoded(bytes),
            R"({"text":"a \"b\"","yes":true,"no":false,"least":-9223372036854775808,"half":0.5,"whole":2.0,)"
            R"("nothing":null,"bytes":"00ff"})");
}

TEST(AttributesJson, NamesNumbersThatJsonHasNot) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(decoded(attribute("nan", [](pbf_writer& v) { v.add_double(4, std::nan("")); }) +
                    attribute("more", [](pbf_writer& v) { v.add_double(4, kInfinity); }) +
                    attribute("less", [](pbf_writer& v) { v.add_double(4, -kInfinity); })),
            R"({"nan":"NaN","more":"Infinity","less":"-Infinity"})");
}

TEST(AttributesJson, DecodesListsAndMaps) {
  const std::string bytes = attribute("outer", [](pbf_writer& value) {
    pbf_writer list(value, 5);
    {
      pbf_writer item(list, 1);
      item.add_int64(3, 1);
    }
    pbf_writer item(list, 1);
    pbf_writer map(item, 6);
    pbf_writer key_value(map, 1);
    key_value.add_string(1, "inner");
    pbf_writer inner(key_value, 2);
    inner.add_string(1, "text");
  });
  EXPECT_EQ(decoded(bytes), R"({"outer":[1,{"inner":"text"}]})");
}

TEST(AttributesJson, TakesThoseOfAnEventByTheirField) {
  bool malformed = false;
  const std::string bytes = attribute(
      "a", [](pbf_writer& v) { v.add_int64(3, 1); }, kEventAttributes);
  EXPECT_EQ(attributes_json(bytes, kEventAttributes, malformed).dump(), R"({"a":1})");
  EXPECT_FALSE(malformed);
  EXPECT_EQ(attributes_json(bytes, kSpanAttributes, malformed).dump(), "{}");
  EXPECT_TRUE(malformed);
}

TEST(AttributesJson, TakesTheFirstOfTwoKeys) {
  EXPECT_EQ(decoded(text_pair("a", "1") + text_pair("a", "2")), R"({"a":"1"})");
}

// A chunk of a recording has room for a million. If each key is compared with all others, this takes minutes.
TEST(AttributesJson, TakesAnyNumberOfKeys) {
  constexpr std::ptrdiff_t kKeys = 300'000;
  std::string bytes;
  for (std::ptrdiff_t i = 0; i < kKeys; ++i) append_integer_attribute(bytes, kSpanAttributes, std::to_string(i), 1);
  bool malformed = false;
  JsonWriter json;
  write_attributes(json, bytes, kSpanAttributes, malformed);
  EXPECT_EQ(std::count(json.text().begin(), json.text().end(), ':'), kKeys);
}

TEST(AttributesJson, KeepsWhatCameBeforeTheDamage) {
  const std::string bytes = text_pair("a", "1") + text_pair("b", "2");
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    bool malformed = false;
    const std::string json = decoded(bytes.substr(0, size), &malformed);
    const std::size_t half = bytes.size() / 2;
    EXPECT_EQ(json, size < half ? "{}" : R"({"a":"1"})") << size;
    EXPECT_EQ(malformed, size != 0 && size != half) << size;
  }
}

TEST(AttributesJson, LeavesOutWhatIsNoUtf8) {
  bool malformed = false;
  EXPECT_EQ(decoded(text_pair("k", "v\xc3") + text_pair("a", "1"), &malformed), R"({"a":"1"})");
  EXPECT_TRUE(malformed);
}

TEST(AttributesJson, GoesDownABoundedNumberOfLevels) {
  for (const int levels : {1, 40, 60, 4000}) {
    // Nested AnyValue { array { values: … } }, built from the innermost outwards, with the sizes that protobuf
    // requires.
    std::string bytes;
    for (int i = 1; i < levels; ++i) {
      std::string list;
      pbf_writer(list).add_message(1, bytes);
      bytes.clear();
      pbf_writer(bytes).add_message(5, list);
    }
    std::string key_value;
    pbf_writer(key_value).add_message(2, bytes);
    std::string whole;
    pbf_writer(whole).add_message(9, key_value);
    bool malformed = false;
    const std::string json = decoded(whole, &malformed);
    EXPECT_EQ(malformed, levels > 50) << levels;
    EXPECT_LE(json.size(), 200U);
  }
}

TEST(AttributesJson, TakesAnyBytes) {
  std::mt19937 random(7);  // the same numbers in every run
  const std::string valid = text_pair("key", "text") + attribute("list", [](pbf_writer& value) {
                              pbf_writer list(value, 5);
                              list.add_message(1, std::string("\x18\x01", 2));
                            });
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = valid;
    for (unsigned changes = 1 + random() % 4; changes > 0; --changes) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    bytes.resize(1 + random() % bytes.size());
    // Exactly sized memory, so that a sanitizer detects a read beyond the end.
    const std::string exact(bytes.begin(), bytes.end());
    bool malformed = false;
    decoded(exact, &malformed);
  }
}

}  // namespace
}  // namespace nopspan::collector
