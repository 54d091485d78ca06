// SPDX-License-Identifier: Apache-2.0
// The block of memory that holds fields, compared with a simple model of it.
#include "recorded.h"

#include "fields/field_buffer.h"

#include <nopspan/event.h>

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using nopspan::detail::copy_value;
using nopspan::detail::FieldBuffer;
using nopspan::detail::FieldEntry;

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

TEST(FieldBuffer, KeepsWhatItIsGivenInOrder) {
  FieldBuffer buffer;
  EXPECT_TRUE(buffer.put_null("null", 0));
  EXPECT_TRUE(buffer.put_word("integer", Value::Type::integer, static_cast<std::uint64_t>(-7), 0));
  EXPECT_TRUE(buffer.put_word("bool", Value::Type::boolean, 1, 0));
  EXPECT_TRUE(buffer.put_string("text", "value", 0));
  EXPECT_TRUE(buffer.put_value("list", Value::list({1, Value::map({{"k", "v"}})}), 0));
  EXPECT_EQ(contents(buffer), (Contents{{"null", nullptr},
                                        {"integer", -7},
                                        {"bool", true},
                                        {"text", "value"},
                                        {"list", Value::list({1, Value::map({{"k", "v"}})})}}));
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

TEST(FieldBuffer, ErasesMeasurementsOnly) {
  FieldBuffer buffer;
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(buffer.put_word("m" + std::to_string(i), Value::Type::integer, 1, FieldEntry::kMeasurement));
    EXPECT_TRUE(buffer.put_string("k" + std::to_string(i), std::string(static_cast<std::size_t>(i) * 7, 'x'), 0));
  }
  buffer.erase_measurements();
  const Contents left = contents(buffer);
  ASSERT_EQ(left.size(), 20U);
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(left[i], std::make_pair("k" + std::to_string(i), Value(std::string(i * 7, 'x'))));
  }
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
