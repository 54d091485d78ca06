// SPDX-License-Identifier: Apache-2.0
// Names: the types that are names, copies, repaired names, and limits.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/execute.h>
#include <nopspan/llm.h>

#include <sys/mman.h>

#include <type_traits>

namespace {

using nopspan::Name;

using Literal = const char (&)[9];
using Buffer = char (&)[9];
template <class T>
constexpr bool is_name = std::is_convertible_v<T, Name>&& std::is_constructible_v<Span, T>&&
    std::is_constructible_v<Span, T, nopspan::SpanOptions>&& std::is_constructible_v<AsyncSpan, T>&&
        std::is_constructible_v<AsyncSpan, T, Context>;
static_assert(is_name<Literal> && is_name<Buffer> && is_name<const char*> && is_name<char*> && is_name<std::string&>);
static_assert(is_name<std::string> && is_name<std::string_view> && is_name<nopspan::Text> && is_name<Name>);
static_assert(!is_name<int> && !is_name<const Context&> && !is_name<const Span&> && !is_name<bool>);
static_assert(!std::is_default_constructible_v<Name>);
static_assert(Name("db.query").view() == "db.query" && Name(std::string_view("db.query").data()).size() == 8);

// The name that a span of `name` is reported with.
template <class N>
std::string emitted(N&& name, const std::vector<std::string>& candidates) {
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

TEST(Name, MayBeAnArrayWithoutATerminator) {
  static const char kText[] = {'d', 'b', '.', 'q', 'u', 'e', 'r', 'y', '9'};
  EXPECT_EQ(Name(kText).view(), "db.query9");
  EXPECT_EQ(emitted(kText, {"db.query.stop", "db.query9.stop"}), "db.query9.stop");
}

TEST(Name, MayBeAnyText) {
  const std::string text = "db.query";
  const std::string longer = "db.query.of.which.only.the.first.eight.bytes.are.viewed";
  char buffer[64] = "db.query\0and what was in the buffer before";
  const char constant[64] = "db.query\0and what was in the array before";
  const char* pointer = text.c_str();
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted(text, {"db.query.start"}), "db.query.start");
  EXPECT_EQ(emitted(std::string_view(longer).substr(0, 8), {"db.query.start"}), "db.query.start");
  EXPECT_EQ(emitted(buffer, {"db.query.start"}), "db.query.start");
  EXPECT_EQ(emitted(constant, {"db.query.start"}), "db.query.start");
  EXPECT_EQ(emitted(pointer, {"db.query.start"}), "db.query.start");
  EXPECT_EQ(emitted(invalid.times() == 0 ? "db.query" : "of.another.length", {"db.query.start"}), "db.query.start");
  EXPECT_EQ(invalid.times(), 0U);
}

// Names of each length around those that are copied in words of eight bytes.
TEST(Name, IsCopiedWhenItsSpanBegins) {
  for (std::size_t size = 1; size <= nopspan::kMaxNameBytes; ++size) {
    const std::string name(size, 'n');
    std::string text = name;
    const SpanRecorder recorder(name.c_str());
    {
      AsyncSpan span{text};
      text.assign(size, 'x');
      span.end();
    }
    EXPECT_EQ(recorder.names(), (std::vector<std::string>{name + ".start", name + ".stop"}));
  }
}

struct Tool {
  char name[16];
};

TEST(Name, InAnArrayThatChangesAfterTheBeginIsThatOfTheBegin) {
  const SpanRecorder recorder("tool.weather");
  Tool tool{"tool.weather"};
  AsyncSpan member{static_cast<const Tool&>(tool).name};
  AsyncSpan local = [] {
    const char name[] = "tool.weather";
    return AsyncSpan{name};
  }();
  tool = {"tool.news"};
  member.end();
  local.end();
  EXPECT_THAT(recorder.names(), SizeIs(4));
}

TEST(Name, OfAnEventMayBeAnyText) {
  const Recorder recorder{"cache.hit", "a?b"};
  nopspan::execute(std::string("cache.hit"));
  AsyncSpan{"db.query"}.event(std::string_view("cache.hit"));
  nopspan::execute("a\tb");
  EXPECT_THAT(recorder.names(), ElementsAre("cache.hit", "cache.hit", "a?b"));
}

TEST(Name, OfMoreThanSixtyThreeBytesIsCutVisiblyAndCounted) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  const Counted truncated(&nopspan::Stats::truncated);
  const std::string whole = FIFTY TEN "aaa.start";
  EXPECT_EQ(emitted(FIFTY TEN "aaa", {whole}), whole);
  EXPECT_EQ(invalid.times(), 0U);
  const std::string cut = FIFTY TEN "\u2026.start";
  EXPECT_EQ(emitted(FIFTY TEN "aaaa", {cut}), cut);
  EXPECT_EQ(invalid.times(), 1U);
  EXPECT_EQ(truncated.times(), 1U);
}

TEST(Name, ThatIsEmptyOrNullIsUnnamed) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  const char* nothing = nullptr;
  EXPECT_EQ(emitted(nothing, {"unnamed.start"}), "unnamed.start");
  EXPECT_EQ(emitted(std::string_view(), {"unnamed.start"}), "unnamed.start");
  EXPECT_EQ(emitted("", {"unnamed.start"}), "unnamed.start");
  EXPECT_EQ(invalid.times(), 3U);
}

TEST(Name, HasAQuestionMarkForEachByteThatCannotStay) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted(std::string("a\0b", 3), {"a?b.start"}), "a?b.start");
  EXPECT_EQ(emitted("a\nb\x7f", {"a?b?.start"}), "a?b?.start");
  EXPECT_EQ(emitted("a\xff\xc3", {"a??.start"}), "a??.start");
  EXPECT_EQ(emitted("\xed\xa0\x80", {"???.start"}), "???.start");  // a surrogate
  EXPECT_EQ(invalid.times(), 4U);
}

TEST(Name, OfOtherAlphabetsStays) {
  const Counted invalid(&nopspan::Stats::names_invalid);
  EXPECT_EQ(emitted("zażółć.gęślą", {"zażółć.gęślą.start"}), "zażółć.gęślą.start");
  EXPECT_EQ(emitted("życie", {"życie.start"}), "życie.start");
  EXPECT_EQ(invalid.times(), 0U);
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

TEST(Name, InterningIsBoundedAndTheRestIsOverflow) {
  expect_in_child([] {
    const Counted overflow(&nopspan::Stats::names_overflow);
    const Name first = Name::intern("name.0");
    for (int i = 1; i < 5000; ++i) Name::intern("name." + std::to_string(i));
    EXPECT_GE(overflow.times(), 5000U - 4096U);
    EXPECT_EQ(Name::intern("one.more").view(), "nopspan.overflow");
    EXPECT_EQ(Name::intern("name.0").data(), first.data());  // existing names are still found
    const Recorder recorder{"nopspan.overflow.start", "name.0.start", "a.literal.start"};
    { const Span span{Name::intern("and.another")}; }
    { const Span span{std::string("one.more")}; }
    { const Span span{first}; }
    { const Span span{"a.literal"}; }  // is not interned
    EXPECT_THAT(recorder.names(),
                ElementsAre("nopspan.overflow.start", "nopspan.overflow.start", "name.0.start", "a.literal.start"));
  });
}

// The other tests of this process have taken some of the room.
TEST(Name, InterningTheSameFromManyThreadsUsesNoMoreRoom) {
  void* shared = mmap(nullptr, sizeof(std::uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(shared, MAP_FAILED);
  auto& without_room = *static_cast<std::uint64_t*>(shared);
  const auto intern_all = [] {
    for (int i = 0; i < 4096; ++i) Name::intern("name." + std::to_string(i));
  };
  expect_in_child([&] {
    const Counted overflow(&nopspan::Stats::names_overflow);
    intern_all();
    without_room = overflow.times();
  });
  expect_in_child([&] {
    in_threads(16, [&](int) { intern_all(); });
    const Counted overflow(&nopspan::Stats::names_overflow);
    intern_all();
    EXPECT_LE(overflow.times(), without_room);  // a thread that races may exceed the limit by one
  });
  munmap(shared, sizeof(std::uint64_t));
}

TEST(Name, InternsFromManyThreadsToOnePointer) {
  std::vector<const char*> seen[4];
  in_threads(4, [&](int t) {
    for (int i = 0; i < 200; ++i) seen[t].push_back(Name::intern("shared." + std::to_string(i)).data());
  });
  for (const auto& mine : seen) EXPECT_EQ(mine, seen[0]);
}

}  // namespace
