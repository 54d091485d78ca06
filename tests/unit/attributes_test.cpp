// SPDX-License-Identifier: Apache-2.0
// The attributes of an entry as OTLP protobuf. A small decoder, which shares no code with the encoder, reads them back.
#include "plain_span.h"
#include "protobuf_reader.h"
#include "recorded.h"

#include "fields/field_buffer.h"
#include "genai/span_attributes.h"

#include <nopspan/fields.h>

#include <random>

namespace {

using nopspan::detail::FieldBuffer;
using nopspan::detail::FieldEntry;
using nopspan::detail::kMaxAttributesBytes;
namespace wire = nopspan::detail::wire;

using Attributes = std::vector<ProtobufReader::KeyValue>;

std::string encoded_attributes(const PlainSpan& span, bool with_content = false) {
  unsigned char bytes[kMaxAttributesBytes];
  const auto written = nopspan::detail::encode_attributes(span, true, with_content, bytes);
  return {reinterpret_cast<const char*>(bytes), written.size};
}

Attributes round_trip(const PlainSpan& span, bool with_content = false) {
  const std::string bytes = encoded_attributes(span, with_content);
  Attributes attributes;
  for (ProtobufReader reader(bytes); !reader.done();) attributes.push_back(reader.key_value(wire::kSpanAttributes));
  return attributes;
}

TEST(Attributes, AreTheBytesThatProtobufWouldWrite) {
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_string("k", "v", 0));
  EXPECT_TRUE(span.fields.put_word("n", Value::Type::integer, 300, 0));
  // field 9 of Span: { 1: "k", 2: { 1: "v" } }, then { 1: "n", 2: { 3: 300 } }
  EXPECT_EQ(encoded_attributes(span), std::string("\x4a\x08\x0a\x01k\x12\x03\x0a\x01v"
                                                  "\x4a\x08\x0a\x01n\x12\x03\x18\xac\x02"));
  // In an Event the attributes are field 3.
  span.is_span = false;
  EXPECT_EQ(encoded_attributes(span).front(), '\x1a');
}

TEST(Attributes, KeepEveryType) {
  PlainSpan span;
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
  for (const auto& [key, value] : values) ASSERT_TRUE(span.fields.put_value(key, value, 0));
  EXPECT_EQ(round_trip(span), values);
}

TEST(Attributes, OfDeepNestingAreWhole) {
  Value value = "deepest";
  for (int i = 0; i < 60; ++i) value = i % 2 == 0 ? Value::list({value, i}) : Value::map({{"k", value}});
  PlainSpan span;
  ASSERT_TRUE(span.fields.put_value("deep", value, 0));
  EXPECT_THAT(round_trip(span), ElementsAre(Pair("deep", value)));
}

TEST(Attributes, AreAlsoTheMeasurements) {
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_word("rows", Value::Type::integer, 3, FieldEntry::kMeasurement));
  EXPECT_THAT(round_trip(span), ElementsAre(Pair("rows", Value(3))));
}

TEST(Attributes, AreNotWhatNopspanAddsForHandlers) {
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_string("request_id", "x", FieldEntry::kAdded));
  EXPECT_THAT(round_trip(span), IsEmpty());
}

TEST(Attributes, HaveContentOnlyWhereItIsCaptured) {
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_string("prompt", "secret", FieldEntry::kContent));
  EXPECT_TRUE(span.fields.put_string("model", "small", 0));
  EXPECT_THAT(round_trip(span), ElementsAre(Pair("model", Value("small"))));
  EXPECT_THAT(round_trip(span, true), ElementsAre(Pair("prompt", Value("secret")), Pair("model", Value("small"))));
}

TEST(Attributes, AreNotWhatContentReplaced) {
  for (const bool kept : {false, true}) {  // with and without a handler
    PlainSpan span;
    span.keeps_content = kept;
    nopspan::Fields(&span).set("first", 1).set("k", 3).set("last", 4).content("k", "secret");
    EXPECT_THAT(round_trip(span), ElementsAre(Pair("first", Value(1)), Pair("last", Value(4))));
  }
}

// OpenTelemetry's UpdateName().
TEST(Attributes, AreContentIfTheNewNameOfTheirSpanSaysSo) {
  for (const bool kept : {true, false}) {
    PlainSpan span;
    span.keeps_content = kept;
    nopspan::Fields fields(&span);
    fields.set("result", "short").set("arguments", std::string(300, 'x')).set("intent", 7).set("row", "short");
    span.name = {"llm.tool", 8, 0};
    note_new_name(span);
    fields.set("input_messages", "later");
    EXPECT_THAT(round_trip(span), ElementsAre(Pair("intent", Value(7)), Pair("row", Value("short"))));
    const auto all =
        ElementsAre(Pair("result", Value("short")), Pair("arguments", ::testing::_), Pair("intent", Value(7)),
                    Pair("row", Value("short")), Pair("input_messages", Value("later")));
    if (kept) {
      EXPECT_THAT(round_trip(span, true), all);
    } else {
      EXPECT_THAT(round_trip(span, true), SizeIs(2)) << "nobody may get it";
    }
  }
}

TEST(Attributes, ThatAreNotUtf8AreMendedAndCounted) {
  const Counted repaired(&nopspan::Stats::invalid_utf8);
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_string("k\xff", "a\xc3(\xe2\x82\xac\xf0\x9f", 0));
  EXPECT_TRUE(span.fields.put_value("list", Value::list({"\xed\xa0\x80"}), 0));
  EXPECT_THAT(round_trip(span),
              ElementsAre(Pair("k?", Value("a?(\xe2\x82\xac??")), Pair("list", Value::list({"???"}))));
  EXPECT_EQ(repaired.times(), 3U);
}

TEST(Attributes, OverTheLimitAreLeftOutWholeAndCounted) {
  const Counted dropped(&nopspan::Stats::attributes_dropped);
  PlainSpan span;
  EXPECT_TRUE(span.fields.put_string("first", std::string(4000, 'a'), 0));
  EXPECT_TRUE(span.fields.put_string("too long", std::string(4200, 'b'), 0));
  EXPECT_TRUE(span.fields.put_string("list", std::string(kMaxAttributesBytes, 'c'), 0));
  EXPECT_TRUE(span.fields.put_string("small", "still fits", 0));
  EXPECT_THAT(round_trip(span),
              ElementsAre(Pair("first", Value(std::string(4000, 'a'))), Pair("small", Value("still fits"))));
  EXPECT_EQ(dropped.times(), 2U);
}

TEST(Attributes, FillTheLimitToTheLastByte) {
  for (std::size_t size = kMaxAttributesBytes - 32; size < kMaxAttributesBytes; ++size) {
    PlainSpan span;
    EXPECT_TRUE(span.fields.put_string("k", std::string(size, 'x'), 0));
    const Counted dropped(&nopspan::Stats::attributes_dropped);
    // The tags and lengths take 1 + 2, 1 + 1 + 1, 1 + 2 and 1 + 2 bytes.
    const bool fits = size + 12 <= kMaxAttributesBytes;
    EXPECT_EQ(encoded_attributes(span).size(), fits ? size + 12 : 0U) << size;
    EXPECT_EQ(dropped.times(), fits ? 0U : 1U) << size;
  }
}

TEST(Attributes, OfNothingAreNothing) { EXPECT_THAT(round_trip(PlainSpan()), IsEmpty()); }

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
