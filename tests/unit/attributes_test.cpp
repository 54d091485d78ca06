// SPDX-License-Identifier: Apache-2.0
// The attributes of an entry as OTLP protobuf. A small decoder, which shares no code with the encoder, reads them back.
#include "recorded.h"

#include "fields/field_buffer.h"
#include "genai/attributes.h"
#include "genai/genai_mapping.h"
#include "state/context_access.h"
#include "state/field_sink.h"
#include "state/intern.h"

#include <nopspan/fields.h>

#include <cstring>
#include <random>

namespace {

using nopspan::detail::encode_attributes;
using nopspan::detail::EncodedAttributes;
using nopspan::detail::FieldBuffer;
using nopspan::detail::FieldEntry;
using nopspan::detail::FieldSink;
using nopspan::detail::kEventAttributesField;
using nopspan::detail::kMaxAttributesBytes;
using nopspan::detail::kSpanAttributesField;

class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}
  [[nodiscard]] bool done() const { return left_.empty(); }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if ((byte & 0x80U) == 0) return value;
    }
    throw std::runtime_error("a varint of more than 10 bytes");
  }
  std::string_view take(std::size_t size) {
    if (size > left_.size()) throw std::runtime_error("bytes are missing");
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }
  // Reads the next field's number and wire type.
  std::pair<unsigned, unsigned> tag() {
    const std::uint64_t tag = varint();
    return {static_cast<unsigned>(tag >> 3U), static_cast<unsigned>(tag & 7U)};
  }
  std::string_view delimited(unsigned number) {
    if (tag() != std::pair<unsigned, unsigned>(number, 2)) throw std::runtime_error("another field was expected");
    return take(varint());
  }

 private:
  std::string_view left_;
};

std::pair<std::string, Value> read_key_value(std::string_view bytes);

Value read_any_value(std::string_view bytes) {
  Reader reader(bytes);
  if (reader.done()) return {};
  const auto [number, wire] = reader.tag();
  Value value;
  if (number == 1 && wire == 2) {
    value = std::string(reader.take(reader.varint()));
  } else if (number == 2 && wire == 0) {
    value = reader.varint() != 0;
  } else if (number == 3 && wire == 0) {
    value = static_cast<std::int64_t>(reader.varint());
  } else if (number == 4 && wire == 1) {
    double real = 0;
    std::memcpy(&real, reader.take(8).data(), 8);
    value = real;
  } else if (number == 5 && wire == 2) {
    Value::List list;
    for (Reader items(reader.take(reader.varint())); !items.done();) list.push_back(read_any_value(items.delimited(1)));
    value = list;
  } else if (number == 6 && wire == 2) {
    Value::Map map;
    for (Reader items(reader.take(reader.varint())); !items.done();) map.push_back(read_key_value(items.delimited(1)));
    value = map;
  } else {
    throw std::runtime_error("not an AnyValue");
  }
  if (!reader.done()) throw std::runtime_error("bytes behind an AnyValue");
  return value;
}

std::pair<std::string, Value> read_key_value(std::string_view bytes) {
  Reader reader(bytes);
  std::string key(reader.delimited(1));
  Value value = read_any_value(reader.delimited(2));
  if (!reader.done()) throw std::runtime_error("bytes behind a KeyValue");
  return {key, value};
}

using Attributes = std::vector<std::pair<std::string, Value>>;

Attributes read_attributes(std::string_view bytes, unsigned field) {
  Attributes attributes;
  for (Reader reader(bytes); !reader.done();) attributes.push_back(read_key_value(reader.delimited(field)));
  return attributes;
}

struct Encoded {
  std::vector<unsigned char> bytes = std::vector<unsigned char>(kMaxAttributesBytes);
  EncodedAttributes result;
  [[nodiscard]] std::string_view view() const { return {reinterpret_cast<const char*>(bytes.data()), result.size}; }
};

Encoded encode(const FieldBuffer& fields, unsigned field = kSpanAttributesField, bool with_content = false) {
  Encoded encoded;
  encoded.result = encode_attributes(fields, field, with_content, encoded.bytes.data());
  return encoded;
}

Attributes round_trip(const FieldBuffer& fields, bool with_content = false) {
  return read_attributes(encode(fields, kSpanAttributesField, with_content).view(), kSpanAttributesField);
}

TEST(Attributes, AreTheBytesThatProtobufWouldWrite) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("k", "v", 0));
  EXPECT_TRUE(fields.put_word("n", Value::Type::integer, 300, 0));
  // field 9 of Span: { 1: "k", 2: { 1: "v" } }, then { 1: "n", 2: { 3: 300 } }
  EXPECT_EQ(encode(fields).view(), std::string("\x4a\x08\x0a\x01k\x12\x03\x0a\x01v"
                                               "\x4a\x08\x0a\x01n\x12\x03\x18\xac\x02"));
  // In an Event the attributes are field 3.
  EXPECT_EQ(encode(fields, kEventAttributesField).view().front(), '\x1a');
}

TEST(Attributes, KeepEveryType) {
  FieldBuffer fields;
  const std::vector<std::pair<std::string, Value>> values{
      {"null", nullptr},
      {"true", true},
      {"false", false},
      {"zero", 0},
      {"one byte", 127},
      {"two bytes", 128},
      {"minus one", -1},
      {"least", std::numeric_limits<std::int64_t>::min()},
      {"largest", std::numeric_limits<std::int64_t>::max()},
      {"double", -0.25},
      {"infinity", std::numeric_limits<double>::infinity()},
      {"empty", ""},
      {"text", "zażółć"},
      {"nul", std::string("a\0b", 3)},
      {"long", std::string(300, 'x')},
      {"empty list", Value::list()},
      {"empty map", Value::map()},
      {"list", Value::list({1, 2.5, "x", nullptr, true, Value::list({"deep"})})},
      {"map", Value::map({{"a", 1}, {"b", Value::map({{"c", Value::list({1, 2})}})}})},
  };
  for (const auto& [key, value] : values) ASSERT_TRUE(fields.put_value(key, value, 0));
  EXPECT_EQ(round_trip(fields), values);
}

TEST(Attributes, OfDeepNestingAreWhole) {
  Value value = "deepest";
  for (int i = 0; i < 60; ++i) value = i % 2 == 0 ? Value::list({value, i}) : Value::map({{"k", value}});
  FieldBuffer fields;
  ASSERT_TRUE(fields.put_value("deep", value, 0));
  EXPECT_THAT(round_trip(fields), ElementsAre(Pair("deep", value)));
}

TEST(Attributes, AreAlsoTheMeasurements) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_word("rows", Value::Type::integer, 3, FieldEntry::kMeasurement));
  EXPECT_TRUE(fields.put_string("rows", "many", 0));
  EXPECT_THAT(round_trip(fields), ElementsAre(Pair("rows", Value(3)), Pair("rows", Value("many"))));
}

TEST(Attributes, AreNotWhatNopspanAddsForHandlers) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("request_id", "x", FieldEntry::kAdded));
  EXPECT_THAT(encode(fields).view(), IsEmpty());
}

TEST(Attributes, HaveContentOnlyWhereItIsCaptured) {
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("prompt", "secret", FieldEntry::kContent));
  EXPECT_TRUE(fields.put_string("model", "small", 0));
  EXPECT_THAT(round_trip(fields), ElementsAre(Pair("model", Value("small"))));
  EXPECT_THAT(round_trip(fields, true), ElementsAre(Pair("prompt", Value("secret")), Pair("model", Value("small"))));
}

TEST(Attributes, AreNotWhatContentReplaced) {
  for (const bool kept : {false, true}) {  // with and without a handler
    FieldSink sink;
    sink.keeps_content = kept;
    nopspan::Fields(&sink).set("first", 1).measure("k", 2).set("k", 3).set("last", 4).content("k", "secret");
    EXPECT_THAT(round_trip(sink.fields),
                ElementsAre(Pair("first", Value(1)), Pair("k", Value(2)), Pair("last", Value(4))));
  }
}

TEST(Attributes, ThatAreNotUtf8AreMendedAndCounted) {
  const Counted repaired(&nopspan::Stats::invalid_utf8);
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("k\xff", "a\xc3(\xe2\x82\xac\xf0\x9f", 0));
  EXPECT_TRUE(fields.put_value("list", Value::list({"\xed\xa0\x80"}), 0));
  EXPECT_THAT(round_trip(fields),
              ElementsAre(Pair("k?", Value("a?(\xe2\x82\xac??")), Pair("list", Value::list({"???"}))));
  EXPECT_EQ(repaired.times(), 3U);
}

TEST(Attributes, OverTheLimitAreLeftOutWholeAndCounted) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  FieldBuffer fields;
  EXPECT_TRUE(fields.put_string("first", std::string(4000, 'a'), 0));
  EXPECT_TRUE(fields.put_string("too long", std::string(4200, 'b'), 0));
  EXPECT_TRUE(fields.put_string("list", std::string(kMaxAttributesBytes, 'c'), 0));
  EXPECT_TRUE(fields.put_string("small", "still fits", 0));
  const Encoded encoded = encode(fields);
  EXPECT_EQ(encoded.result.dropped, 2U);
  EXPECT_EQ(dropped.times(), 2U);
  EXPECT_THAT(read_attributes(encoded.view(), kSpanAttributesField),
              ElementsAre(Pair("first", Value(std::string(4000, 'a'))), Pair("small", Value("still fits"))));
}

TEST(Attributes, FillTheLimitToTheLastByte) {
  for (std::size_t size = kMaxAttributesBytes - 32; size < kMaxAttributesBytes; ++size) {
    FieldBuffer fields;
    EXPECT_TRUE(fields.put_string("k", std::string(size, 'x'), 0));
    const Encoded encoded = encode(fields);
    // The tags and lengths take 1 + 2, 1 + 1 + 1, 1 + 2 and 1 + 2 bytes.
    const bool fits = size + 12 <= kMaxAttributesBytes;
    EXPECT_EQ(encoded.result.dropped, fits ? 0U : 1U) << size;
    EXPECT_EQ(encoded.result.size, fits ? size + 12 : 0U) << size;
  }
}

TEST(Attributes, OfNothingAreNothing) { EXPECT_THAT(encode(FieldBuffer()).view(), IsEmpty()); }

// ---- The block of memory that holds fields, compared with a simple model of it.

using nopspan::detail::copy_value;

using Contents = std::vector<std::pair<std::string, Value>>;

Contents contents(const FieldBuffer& buffer) {
  Contents all;
  for (const unsigned char* at = buffer.begin(); at < buffer.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry& entry = *FieldEntry::at(at);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(at) % 8, 0U);
    if (!entry.is_wire()) {
      EXPECT_EQ(*(entry.key().data() + entry.key_size), '\0');
    }
    all.emplace_back(((entry.flags & FieldEntry::kMeasurement) != 0 ? "m:" : "") + std::string(entry.key()),
                     copy_value(entry));
  }
  return all;
}

TEST(FieldBuffer, FindsByKeyAndSort) {
  FieldBuffer buffer;
  EXPECT_TRUE(buffer.put_word("k", Value::Type::integer, 1, FieldEntry::kMeasurement));
  EXPECT_EQ(buffer.find("k", false), nullptr);
  EXPECT_TRUE(buffer.put_string("k", "metadata", 0));
  EXPECT_EQ(buffer.find("k", true)->as_int(), 1);
  EXPECT_EQ(buffer.find("k", false)->as_string(), "metadata");
  EXPECT_EQ(buffer.find("", false), nullptr);
}

TEST(FieldBuffer, ErasesOneKeyAndHasRoomForAnother) {
  FieldBuffer buffer;
  for (std::size_t i = 0; i < FieldBuffer::kMaxKeys; ++i) {
    EXPECT_TRUE(buffer.put_word("k" + std::to_string(i), Value::Type::integer, i, 0));
  }
  EXPECT_FALSE(buffer.put_null("one more", 0));
  buffer.erase("no such key");
  buffer.erase("k5");
  EXPECT_EQ(buffer.find("k5", false), nullptr);
  EXPECT_EQ(buffer.find("k6", false)->as_int(), 6);
  EXPECT_TRUE(buffer.put_null("one more", 0));
  EXPECT_FALSE(buffer.put_null("and another", 0));
  EXPECT_EQ(contents(buffer).size(), FieldBuffer::kMaxKeys);
}

TEST(FieldBuffer, KeepsUsualFieldsAsTheAttributesThatTheyBecome) {
  FieldBuffer buffer;
  EXPECT_TRUE(buffer.put_usual_string("text", "value"));
  EXPECT_TRUE(buffer.put_usual_string("empty", ""));
  EXPECT_TRUE(buffer.put_usual_word("integer", Value::Type::integer, static_cast<std::uint64_t>(-7)));
  EXPECT_TRUE(buffer.put_usual_word("small", Value::Type::integer, 127));
  EXPECT_TRUE(buffer.put_usual_word("more", Value::Type::integer, 128));
  EXPECT_TRUE(buffer.put_usual_word("bool", Value::Type::boolean, 1));
  EXPECT_TRUE(buffer.put_usual_real("real", -0.5));
  const std::string key(FieldEntry::kMostWireKey, 'k');
  const std::string text(FieldEntry::kMostWireText, 't');
  EXPECT_TRUE(buffer.put_usual_string(key, text));
  EXPECT_EQ(contents(buffer), (Contents{{"text", "value"},
                                        {"empty", ""},
                                        {"integer", -7},
                                        {"small", 127},
                                        {"more", 128},
                                        {"bool", true},
                                        {"real", -0.5},
                                        {key, text}}));
  for (const unsigned char* at = buffer.begin(); at < buffer.end(); at = FieldEntry::at(at)->end()) {
    EXPECT_TRUE(FieldEntry::at(at)->is_wire());
  }
  const FieldEntry* first = FieldEntry::at(buffer.begin());
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(first->wire()), first->wire_size()),
            "\x4a\x0f\x0a\x04text\x12\x07\x0a\x05value");
}

TEST(FieldBuffer, KeepsNoOthersSo) {
  FieldBuffer buffer;
  EXPECT_FALSE(buffer.put_usual_string("k", std::string(FieldEntry::kMostWireText + 1, 't')));
  EXPECT_FALSE(buffer.put_usual_string(std::string(FieldEntry::kMostWireKey + 1, 'k'), "t"));
  EXPECT_FALSE(buffer.put_usual_string("k", "\u00e9"));
  EXPECT_FALSE(buffer.put_usual_string("\u00e9", "t"));
  EXPECT_FALSE(buffer.put_usual_string("k", "at the very end of a text of forty bytes \xff"));
  EXPECT_EQ(buffer.begin(), buffer.end());
  EXPECT_TRUE(buffer.put_usual_string("k", "t"));
  EXPECT_FALSE(buffer.put_usual_word("k", Value::Type::integer, 1)) << "the key is already present";
  EXPECT_EQ(contents(buffer), (Contents{{"k", "t"}}));
  EXPECT_TRUE(buffer.put_entry("other", *FieldEntry::at(buffer.begin()), FieldEntry::kOwn));
  EXPECT_EQ(contents(buffer), (Contents{{"k", "t"}, {"other", "t"}}));
}

TEST(FieldBuffer, KeepsUsualFieldsUpToTheSameLimit) {
  FieldBuffer buffer;
  for (std::size_t i = 0; i < FieldBuffer::kMaxKeys; ++i) {
    const std::string key = "k" + std::to_string(i);
    EXPECT_TRUE(buffer.put_usual_word(key, Value::Type::integer, i) ||
                buffer.put_word(key, Value::Type::integer, i, 0));
  }
  for (const char* key : {"a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "l", "m", "n"}) {
    EXPECT_FALSE(buffer.put_usual_string(key, "one more"));
    EXPECT_FALSE(buffer.put_string(key, "one more", 0));
  }
  EXPECT_EQ(contents(buffer).size(), FieldBuffer::kMaxKeys);
}

TEST(FieldBuffer, LeavesEverythingAsItWasWhenSomethingDoesNotFit) {
  FieldBuffer buffer;
  EXPECT_TRUE(buffer.put_string("k", "value", 0));
  const Contents before = contents(buffer);
  Value deep(1);
  for (int i = 0; i < 65; ++i) deep = Value::list({deep});
  EXPECT_FALSE(buffer.put_value("k", deep, 0));
  EXPECT_FALSE(buffer.put_value("k", Value::map({{std::string(256, 'k'), 1}}), 0));
  EXPECT_FALSE(buffer.put_string(std::string(256, 'k'), "v", 0));
  EXPECT_FALSE(buffer.put_string("k", std::string(FieldBuffer::kMaxBytes, 'x'), 0));
  EXPECT_EQ(contents(buffer), before);
}

TEST(FieldBuffer, DoesWhatAListOfPairsWouldDo) {
  std::mt19937 random(7);  // the same numbers in every run
  for (int round = 0; round < 200; ++round) {
    FieldBuffer buffer;
    Contents model;
    for (int step = 0; step < 60; ++step) {
      const bool measurement = random() % 3 == 0;
      const std::string key(random() % 12, static_cast<char>('a' + random() % 3));
      const Value value = measurement ? Value(static_cast<std::int64_t>(random()))
                          : random() % 2 == 0
                              ? Value(std::string(random() % (random() % 2 == 0 ? 400 : 70), 'x'))
                              : Value::list({static_cast<int>(random() % 10), std::string(random() % 50, 'y')});
      const bool put =
          (!measurement && value.type() == Value::Type::string && buffer.put_usual_string(key, value.as_string())) ||
          buffer.put_value(key, value, measurement ? FieldEntry::kMeasurement : std::uint8_t{0});
      ASSERT_TRUE(put);
      const std::string name = (measurement ? "m:" : "") + key;
      const auto there =
          std::find_if(model.begin(), model.end(), [&](const auto& entry) { return entry.first == name; });
      if (there != model.end()) {
        there->second = value;
      } else {
        model.emplace_back(name, value);
      }
      if (random() % 40 == 0) {
        buffer.erase_measurements();
        model.erase(std::remove_if(model.begin(), model.end(),
                                   [](const auto& entry) { return entry.first.substr(0, 2) == "m:"; }),
                    model.end());
      }
    }
    ASSERT_EQ(contents(buffer), model) << "round " << round;
  }
}

}  // namespace
