// SPDX-License-Identifier: Apache-2.0
// Repair of texts: control characters, invalid UTF-8, and length limits.
#include "recorded.h"

#include "base/clean_text.h"

#include <string>

namespace {

using nopspan::detail::clean;
using nopspan::detail::is_clean;
using nopspan::detail::is_type_name;
using nopspan::detail::is_utf8;

std::string cleaned(std::string_view text) {
  char out[nopspan::kMaxNameBytes + 1];
  const std::size_t size = clean(text, out);
  EXPECT_EQ(out[size], '\0');
  EXPECT_LE(size, nopspan::kMaxNameBytes);
  return {out, size};
}

TEST(Utf8, AcceptsWhatTheStandardAccepts) {
  for (const char* text : {"", "ascii", "\xc2\x80", "\xdf\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xee\x80\x80",
                           "\xef\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf"}) {
    EXPECT_TRUE(is_utf8(text)) << text;
  }
}

TEST(Utf8, RefusesWhatTheStandardRefuses) {
  for (const char* text : {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc2", "\xc2\xc2", "\xe0\x9f\xbf", "\xe0\xa0",
                           "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80", "\xf4\x90\x80\x80",
                           "\xf5\x80\x80\x80", "\xfe", "\xff", "a\xe2\x82z"}) {
    EXPECT_FALSE(is_utf8(text));
  }
}

TEST(Clean, IsAnythingShortThatCanBePrinted) {
  EXPECT_TRUE(is_clean("llm.chat"));
  EXPECT_TRUE(is_clean("zażółć gęślą"));
  EXPECT_TRUE(is_clean(std::string(63, 'x')));
  EXPECT_FALSE(is_clean(std::string(64, 'x')));
  EXPECT_FALSE(is_clean(""));
  EXPECT_FALSE(is_clean("tab\t"));
  EXPECT_FALSE(is_clean(std::string_view("nul\0", 4)));
  EXPECT_FALSE(is_clean("del\x7f"));
  EXPECT_FALSE(is_clean("\xff"));
}

TEST(Clean, KnowsTheControlCharactersOfUnicode) {
  EXPECT_FALSE(is_clean("first line\u0085second"));
  EXPECT_FALSE(is_clean("\u009b31m"));
  EXPECT_TRUE(is_clean("no\u00a0break"));
  EXPECT_EQ(cleaned("\u0080\u009b31m\u009f\u00a0"), "????31m??\u00a0");
}

TEST(Clean, ReplacesByteByByte) {
  EXPECT_EQ(cleaned("a\tb\x7f"), "a?b?");
  EXPECT_EQ(cleaned("\xe2\x82z"), "??z");
  EXPECT_EQ(cleaned("gęś"), "gęś");
  EXPECT_EQ(cleaned(""), "");
}

TEST(Clean, CountsTextsThatItMended) {
  const Counted invalid(&nopspan::Stats::invalid_utf8);
  cleaned("as it is");
  EXPECT_EQ(invalid.times(), 0U);
  cleaned("\xff\xff\n");
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(Clean, CutsVisiblyAndCounts) {
  const Counted truncated(&nopspan::Stats::truncated);
  EXPECT_EQ(cleaned(std::string(63, 'x')), std::string(63, 'x'));
  EXPECT_EQ(truncated.times(), 0U);
  EXPECT_EQ(cleaned(std::string(64, 'x')), std::string(60, 'x') + "\u2026");
  EXPECT_EQ(cleaned(std::string(100'000, '\n')), std::string(60, '?') + "\u2026");
  EXPECT_EQ(truncated.times(), 2U);
}

TEST(Clean, NeverCutsInsideACharacter) {
  for (std::size_t before = 50; before < 64; ++before) {
    const std::string text =
        std::string(before, 'x') + "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80";
    const std::string out = cleaned(text);
    EXPECT_TRUE(is_utf8(out)) << before;
    EXPECT_EQ(out.find('?'), std::string::npos) << before;
    EXPECT_EQ(out.substr(out.size() - 3), "\u2026") << before;
  }
}

TEST(TypeName, IsAWordAStatusOrATypeOfTheLanguage) {
  for (const char* type : {"timeout", "rate-limit", "503", "my.Error", "std::runtime_error", "a::B<int, char const*>",
                           "(anonymous namespace)::Failed", "std::vector<std::pair<int, A::B>, Pool>::Error"}) {
    EXPECT_TRUE(is_type_name(type)) << type;
  }
}

TEST(TypeName, IsNoSentence) {
  for (const char* text : {"", "no such file", "key=value", "a/b", "<b", "a>", "a<b> c", "na\u00efve", "a\nb", "why?",
                           "(anonymous)", "x@y.z"}) {
    EXPECT_FALSE(is_type_name(text)) << text;
  }
}

}  // namespace
