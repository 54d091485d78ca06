// SPDX-License-Identifier: Apache-2.0
// UTF-8 decoding.
#include "base/utf8.h"

#include <gtest/gtest.h>

namespace nopspan::collector {
namespace {

using std::string_literals::operator""s;

TEST(PrintableAscii, IsDecidedByEachByte) {
  for (std::size_t size = 0; size <= 17; ++size) {
    EXPECT_TRUE(is_printable_ascii(std::string(size, '~'))) << size;
    for (std::size_t at = 0; at < size; ++at) {
      for (unsigned byte = 0; byte < 256; ++byte) {
        std::string text(size, ' ');
        text[at] = static_cast<char>(byte);
        EXPECT_EQ(is_printable_ascii(text), byte >= 0x20 && byte < 0x7f) << size << " " << at << " " << byte;
      }
    }
  }
}

// The first and last sequences of each row of table 3-7 of the Unicode Standard.
TEST(Utf8, IsWhatTheStandardSays) {
  const std::pair<std::string, char32_t> characters[] = {
      {"\0"s, 0},
      {"\x7f", 0x7f},
      {"\xc2\x80", 0x80},
      {"\xdf\xbf", 0x7ff},
      {"\xe0\xa0\x80", 0x800},
      {"\xed\x9f\xbf", 0xd7ff},
      {"\xee\x80\x80", 0xe000},
      {"\xef\xbf\xbf", 0xffff},
      {"\xf0\x90\x80\x80", 0x10000},
      {"\xf4\x8f\xbf\xbf", 0x10ffff},
  };
  for (const auto& [text, code] : characters) {
    EXPECT_EQ(first_character(text + "\xff").code, code);
    EXPECT_EQ(first_character(text + "\xff").bytes, text.size()) << testing::PrintToString(text);
    EXPECT_TRUE(is_utf8("seven.." + text + text)) << testing::PrintToString(text);
    EXPECT_EQ(replaced_utf8(text + "\xff" + text), text + "\ufffd" + text) << testing::PrintToString(text);
  }
  for (const std::string& none :
       {"\x80"s, "\xbf"s, "\xc0\x80"s, "\xc1\xbf"s, "\xc2"s, "\xc2\x7f"s, "\xe0\x9f\xbf"s, "\xe1\x80"s, "\xed\xa0\x80"s,
        "\xed\xbf\xbf"s, "\xf0\x8f\xbf\xbf"s, "\xf4\x90\x80\x80"s, "\xf1\x80\x80"s, "\xf5\x80\x80\x80"s, "\xff"s}) {
    EXPECT_EQ(first_character(none).bytes, 0U) << testing::PrintToString(none);
    EXPECT_FALSE(is_utf8("seven.." + none)) << testing::PrintToString(none);
    EXPECT_TRUE(replaced_utf8(none).starts_with("\ufffd")) << testing::PrintToString(none);
  }
}

}  // namespace
}  // namespace nopspan::collector
