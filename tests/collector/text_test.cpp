// SPDX-License-Identifier: Apache-2.0
// How values are printed, and how values that users type are parsed.
#include "base/text.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <random>

namespace nopspan::collector {
namespace {

TEST(Printable, LetsPlainTextBe) {
  EXPECT_EQ(printable("llm.chat"), "llm.chat");
  EXPECT_EQ(printable("Größe 日本語 🙂"), "Größe 日本語 🙂");
  EXPECT_EQ(printable(""), "");
}

TEST(Printable, EscapesWhatATerminalObeys) {
  EXPECT_EQ(printable("a\x1b[2Jb"), R"(a\x1b[2Jb)");
  EXPECT_EQ(printable("a\nb\tc\rd\x7f"), R"(a\x0ab\x09c\x0dd\x7f)");
  EXPECT_EQ(printable(std::string_view("a\0b", 3)), R"(a\x00b)");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m"),
            R"(\xc2\x9b31m)")
      << "U+009B is CSI, which begins a control sequence";
}

TEST(Printable, EscapesWhatTurnsTheOrderOrBreaksTheLine) {
  EXPECT_EQ(printable("\u202etxt"), R"(\xe2\x80\xaetxt)");
  EXPECT_EQ(printable("\u2066a\u2069"), R"(\xe2\x81\xa6a\xe2\x81\xa9)");
  EXPECT_EQ(printable("\u200f"), R"(\xe2\x80\x8f)");
  EXPECT_EQ(printable("\u2028"), R"(\xe2\x80\xa8)");
}

TEST(Printable, EscapesWhatIsNoUtf8ByteByByte) {
  EXPECT_EQ(printable("\xff"), R"(\xff)");
  EXPECT_EQ(printable("\xc3"), R"(\xc3)") << "cut off";
  EXPECT_EQ(printable("\xc3(x"), R"(\xc3(x)");
  EXPECT_EQ(printable("\xc0\xaf"), R"(\xc0\xaf)") << "an overlong slash";
  EXPECT_EQ(printable("\xed\xa0\x80"), R"(\xed\xa0\x80)") << "a surrogate";
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), R"(\xf4\x90\x80\x80)") << "over U+10FFFF";
  EXPECT_EQ(printable("\xf0\x80\x80\xaf"), R"(\xf0\x80\x80\xaf)") << "an overlong one of four bytes";
}

TEST(Printable, CutsWithAnEllipsis) {
  EXPECT_EQ(printable("123456", 6), "123456");
  EXPECT_EQ(printable("1234567", 6), "12345…");
  EXPECT_EQ(printable("ööööööö", 6), "ööööö…");
  EXPECT_EQ(printable("ab\n", 4), "ab…") << "an escape is not cut in half";
  EXPECT_EQ(printable("abc", 1), "…");
  EXPECT_EQ(printable("abc", 0), "");
}

TEST(Printable, IsPlainTextForAnyBytes) {
  std::mt19937 random(1);
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes(random() % 24, '\0');
    for (char& c : bytes) c = static_cast<char>(random() % 3 == 0 ? random() % 256 : 0x80 + random() % 128);
    const std::string shown = printable(bytes);
    EXPECT_EQ(printable(shown, 1000), shown) << "its output is plain text";
    for (const char c : shown) EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
  }
}

TEST(DurationText, HasThreeDigits) {
  EXPECT_EQ(duration_text(0), "0 ns");
  EXPECT_EQ(duration_text(412), "412 ns");
  EXPECT_EQ(duration_text(999), "999 ns");
  EXPECT_EQ(duration_text(1'000), "1.00 us");
  EXPECT_EQ(duration_text(12'345), "12.3 us");
  EXPECT_EQ(duration_text(123'456), "123 us");
  EXPECT_EQ(duration_text(3'412'000), "3.41 ms");
  EXPECT_EQ(duration_text(1'250'000'000), "1.25 s");
  EXPECT_EQ(duration_text(59'940'000'000), "59.9 s");
}

TEST(DurationText, RoundsIntoTheNextUnit) {
  EXPECT_EQ(duration_text(9'996), "10.0 us");
  EXPECT_EQ(duration_text(99'960), "100 us");
  EXPECT_EQ(duration_text(999'499), "999 us");
  EXPECT_EQ(duration_text(999'500), "1.00 ms");
  EXPECT_EQ(duration_text(999'999'999), "1.00 s");
  EXPECT_EQ(duration_text(59'950'000'000), "1m00s");
  EXPECT_EQ(duration_text(3'599'600'000'000), "1h00m");
  EXPECT_EQ(duration_text(86'399'000'000'000), "1d00h");
}

TEST(DurationText, CountsMinutesHoursAndDays) {
  EXPECT_EQ(duration_text(125'000'000'000), "2m05s");
  EXPECT_EQ(duration_text(3'720'000'000'000), "1h02m");
  EXPECT_EQ(duration_text(273'600'000'000'000), "3d04h");
  EXPECT_EQ(duration_text(UINT64_MAX), "213504d00h");
}

TEST(NumberText, IsShort) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(950), "950");
  EXPECT_EQ(number_text(12.34), "12.3");
  EXPECT_EQ(number_text(0.5), "0.5");
  EXPECT_EQ(number_text(12'300), "12.3k");
  EXPECT_EQ(number_text(4'560'000), "4.56M");
  EXPECT_EQ(number_text(999.4), "999");
  EXPECT_EQ(number_text(999.6), "1.00k");
  EXPECT_EQ(number_text(999'600), "1.00M");
  EXPECT_EQ(number_text(-1500), "-1.50k");
  EXPECT_EQ(number_text(0.0 / 0.0), "-");
}

TEST(BytesText, IsInPowersOf1024) {
  EXPECT_EQ(bytes_text(0), "0 B");
  EXPECT_EQ(bytes_text(1023), "1023 B");
  EXPECT_EQ(bytes_text(1536), "1.5 KiB");
  EXPECT_EQ(bytes_text(16U << 20U), "16 MiB");
  EXPECT_EQ(bytes_text((1U << 20U) - 1), "1 MiB");
  EXPECT_EQ(bytes_text(UINT64_MAX), "16 EiB");
}

TEST(TimeText, IsLocalTime) {
  setenv("TZ", "UTC-2", 1);  // two hours east of Greenwich
  tzset();
  EXPECT_EQ(time_text(1'700'000'003'123'456'789), "00:13:23.123");
  setenv("TZ", "UTC", 1);
  tzset();
  EXPECT_EQ(time_text(1'700'000'003'999'999'999), "22:13:23.999") << "truncated, so that it is never in the future";
}

}  // namespace
}  // namespace nopspan::collector
