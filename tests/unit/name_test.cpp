// SPDX-License-Identifier: Apache-2.0
// Names: types that must not compile as a name, repaired names, and limits.
#include "in_child.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/llm.h>
#include <nopspan/name.h>
#include <nopspan/span.h>

#include <string>
#include <thread>
#include <type_traits>
#include <vector>

namespace {

using nopspan::Name;

using Literal = const char (&)[9];
using Buffer = char (&)[9];
static_assert(std::is_constructible_v<Name, Literal> && std::is_convertible_v<Literal, Name>);
static_assert(std::is_constructible_v<Span, Literal> && std::is_constructible_v<AsyncSpan, Literal>);
// The library keeps the address of a name. Text that may change or disappear must therefore not compile.
static_assert(!std::is_constructible_v<Name, Buffer>);
static_assert(!std::is_constructible_v<Span, Buffer>);
static_assert(!std::is_constructible_v<Span, Buffer, nopspan::SpanOptions>);
static_assert(!std::is_constructible_v<AsyncSpan, Buffer>);
static_assert(!std::is_constructible_v<AsyncSpan, Buffer, Context>);
static_assert(!std::is_constructible_v<Name, const char*> && !std::is_constructible_v<Span, const char*>);
static_assert(!std::is_constructible_v<Name, std::string> && !std::is_constructible_v<Span, std::string>);
static_assert(!std::is_constructible_v<Name, std::string_view> && !std::is_constructible_v<Name, std::nullptr_t>);
static_assert(!std::is_default_constructible_v<Name>);

// The name that a span of `name` is reported with.
template <class N>
std::string emitted(const N& name, const std::vector<std::string>& candidates) {
  const Recorder recorder(candidates);
  { const Span span{name}; }
  return recorder.size() == 0 ? "(none of them)" : std::string(recorder.events()[0]->name());
}

#define TEN "aaaaaaaaaa"
#define FIFTY TEN TEN TEN TEN TEN

TEST(Name, KeepsTheAddressOfALiteral) {
  static const char kText[] = "db.query";
  constexpr Name name(kText);
  EXPECT_EQ(name.data(), kText);
  EXPECT_EQ(name.view(), "db.query");
  EXPECT_EQ(name.size(), 8U);
}

TEST(Name, OfSixtyThreeBytesLeavesWhole) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  const std::string whole = std::string(63, 'a') + ".start";
  EXPECT_EQ(emitted(FIFTY TEN "aaa", {whole}), whole);
  EXPECT_EQ(invalid.times(), 0U);
}

TEST(Name, ThatIsLongerIsCutVisiblyAndCounted) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  const Counted truncated(&nopspan::Stats::truncated);
  const std::string cut = FIFTY TEN "\u2026.start";
  EXPECT_EQ(emitted(FIFTY TEN "aaaa", {cut}), cut);
  EXPECT_EQ(invalid.times(), 1U);
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(Name, IsNeverCutInsideACharacter) {
  // 59 bytes, followed by characters of three bytes each. The 60th byte would be the first of such a character.
  EXPECT_EQ(Name::intern(FIFTY "aaaaaaaaa\u20ac\u20ac").view(), FIFTY "aaaaaaaaa\u2026");
}

TEST(Name, ThatIsEmptyIsUnnamed) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted("", {"unnamed.start"}), "unnamed.start");
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(Name, HasAQuestionMarkForEachByteThatCannotStay) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted("a\0b", {"a?b.start"}), "a?b.start");
  EXPECT_EQ(emitted("a\nb\x7f", {"a?b?.start"}), "a?b?.start");
  EXPECT_EQ(emitted("a\xff\xc3", {"a??.start"}), "a??.start");
  EXPECT_EQ(emitted("\xed\xa0\x80", {"???.start"}), "???.start");  // a surrogate
  EXPECT_EQ(invalid.times(), 4U);
}

TEST(Name, OfOtherAlphabetsStays) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted("zażółć.gęślą", {"zażółć.gęślą.start"}), "zażółć.gęślą.start");
  EXPECT_EQ(invalid.times(), 0U);
}

TEST(Name, OfAnEventIsMendedToo) {
  const Recorder recorder{"a?b"};
  nopspan::execute("a\tb");
  EXPECT_EQ(recorder.size(), 1U);
}

TEST(Name, InternsTheSameTextOnce) {
  std::string text = "a.dynamic.name";
  const Name first = Name::intern(text);
  text[0] = 'x';
  EXPECT_EQ(first.view(), "a.dynamic.name");
  EXPECT_EQ(first.data()[first.size()], '\0');
  EXPECT_EQ(Name::intern("a.dynamic.name").data(), first.data());
  EXPECT_NE(Name::intern(text).data(), first.data());
}

TEST(Name, InternsMendedForms) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(Name::intern(nullptr).view(), "unnamed");
  EXPECT_EQ(Name::intern("").view(), "unnamed");
  EXPECT_EQ(Name::intern(std::string("a\0b", 3)).view(), "a?b");
  EXPECT_EQ(Name::intern(std::string(64, 'n')).view(), std::string(60, 'n') + "\u2026");
  EXPECT_EQ(invalid.times(), 4U);
}

TEST(Name, ThatWasInternedNamesASpan) {
  const SpanRecorder recorder("interned.at.run.time");
  { const Span span{Name::intern(std::string("interned.at.run.time"))}; }
  EXPECT_THAT(recorder.names(), SizeIs(2));
}

TEST(Name, InterningIsBoundedAndTheRestIsOverflow) {
  EXPECT_THAT(in_child([] {
                const Counted overflow(&nopspan::Stats::names_overflow);
                const Name first = Name::intern("name.0");
                for (int i = 1; i < 5000; ++i) Name::intern("name." + std::to_string(i));
                EXPECT_GE(overflow.times(), 5000U - 4096U);
                EXPECT_EQ(Name::intern("one.more").view(), "nopspan.overflow");
                EXPECT_EQ(Name::intern("name.0").data(), first.data());  // existing names are still found
                const Recorder recorder{"nopspan.overflow.start"};
                { const Span span{Name::intern("and.another")}; }
                EXPECT_EQ(recorder.size(), 1U);
              }),
              IsEmpty());
}

TEST(Name, InternsFromManyThreadsToOnePointer) {
  std::vector<std::thread> threads;
  std::vector<std::vector<const char*>> seen(4);
  for (auto& mine : seen) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 200; ++i) mine.push_back(Name::intern("shared." + std::to_string(i)).data());
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& mine : seen) EXPECT_EQ(mine, seen[0]);
}

}  // namespace
