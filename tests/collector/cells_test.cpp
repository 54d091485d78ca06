// SPDX-License-Identifier: Apache-2.0
// Widths of texts in terminal cells.
#include "base/cells.h"

#include <gmock/gmock.h>

#include <clocale>

namespace nopspan::collector {
namespace {

// The width of a character depends on the locale.
class Cells : public testing::Test {
 protected:
  void SetUp() override {
    if (std::setlocale(LC_CTYPE, "C.UTF-8") == nullptr) GTEST_SKIP() << "the locale C.UTF-8 is missing";
  }
  void TearDown() override { std::setlocale(LC_CTYPE, "C"); }
};

TEST_F(Cells, AreOneForALetterTwoForAWideOneAndNoneForAMark) {
  EXPECT_EQ(cells_of(""), 0U);
  EXPECT_EQ(cells_of("Größe"), 5U);
  EXPECT_EQ(cells_of("模型"), 4U);
  EXPECT_EQ(cells_of("e\u0301"), 1U);
  EXPECT_EQ(cells_of("\U0001f600"), 2U);
}

TEST_F(Cells, AreFilledUp) {
  EXPECT_EQ(fit("ab", 4), "ab  ");
  EXPECT_EQ(fit("ab", 4, Align::right), "  ab");
  EXPECT_EQ(fit("模", 4, Align::right), "  模");
  EXPECT_EQ(fit("", 2), "  ");
}

TEST_F(Cells, AreCut) {
  EXPECT_EQ(fit("abcd", 4), "abcd");
  EXPECT_EQ(fit("abcde", 4), "abc…");
  EXPECT_EQ(fit("abcde", 1), "…");
  EXPECT_EQ(fit("abcde", 0), "");
  EXPECT_EQ(fit("模型模", 5), "模型…");
  EXPECT_EQ(fit("模型模", 4), "模… ") << "a wide letter is not cut in half";
}

TEST_F(Cells, HaveAtMostTwoMarksEach) {
  EXPECT_EQ(fit("e\u0301\u0301\u0301\u0301z", 3), "e\u0301\u0301z ");
  EXPECT_EQ(fit("\u0301z", 2), "z ") << "a combining mark at the beginning would change the cell before";
}

TEST_F(Cells, AreOfTheWidthThatWasAskedWhateverTheText) {
  const std::string texts[] = {"模型模型", "e\u0301e\u0301e\u0301", "plain", "…", "\xff\xfe\xf0\x9f", "a模b型"};
  for (const std::string& text : texts) {
    for (std::size_t width = 0; width < 12; ++width) EXPECT_EQ(cells_of(fit(text, width)), width) << text << width;
  }
}

TEST(CellsOfAnyLocale, ShowQuestionMarksForWhatIsNotAscii) { EXPECT_EQ(ascii_only("a模ö…z"), "a???z"); }

TEST(CellsOfAnyLocale, AreOneForEachCharacterWhereTheLocaleKnowsNoBetter) { EXPECT_EQ(cells_of("Größe"), 5U); }

TEST_F(Cells, AreBrokenAfterSeparators) {
  using testing::ElementsAre;
  EXPECT_THAT(wrapped("", 10), ElementsAre(""));
  EXPECT_THAT(wrapped("one two three", 13), ElementsAre("one two three"));
  EXPECT_THAT(wrapped("one two three", 12), ElementsAre("one two", "  three"));
  EXPECT_THAT(wrapped("q     quit now", 12, 4), ElementsAre("q     quit", "    now"));
  EXPECT_THAT(wrapped("who: a 1, b 2, c 3", 10, 2, ", "), ElementsAre("who: a 1,", "  b 2, c 3"));
  EXPECT_THAT(wrapped("Größe Größe", 11), ElementsAre("Größe Größe"));
  EXPECT_THAT(wrapped("too-long-for-it", 5), ElementsAre("too-long-for-it"));
}

}  // namespace
}  // namespace nopspan::collector
