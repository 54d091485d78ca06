// SPDX-License-Identifier: Apache-2.0
// Texts and ids.
#include "recorded.h"

#include "base/chacha.h"
#include "base/clean_text.h"
#include "state/identity.h"
#include "thread/thread_state.h"

#include <nopspan/probes.h>

#include <cstring>
#include <set>

namespace {

// ---- Repair of texts: control characters, invalid UTF-8, and length limits.

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

// ---- Base64, hexadecimal digits, hashes and random numbers.

using namespace nopspan::detail;

using TraceId = unsigned char[kTraceIdBytes];

std::string base64(const TraceId& id) {
  char text[kRequestIdChars];
  nopspan_request_id(id, text);
  return {text, sizeof(text)};
}
bool decode(const std::string& text, TraceId& id) { return nopspan_trace_id(text.data(), text.size(), id) != 0; }
std::string hex(const unsigned char* bytes, std::size_t size) {
  std::string text(2 * size, ' ');
  encode_hex(bytes, size, text.data());
  return text;
}

// The example of RFC 8439, section 2.3.2. Its counter has 32 bits, and its nonce has 96.
TEST(Chacha, IsThatOfRfc8439) {
  unsigned char bytes[32];
  for (unsigned i = 0; i < sizeof(bytes); ++i) bytes[i] = static_cast<unsigned char>(i);
  std::uint64_t key[4];
  std::memcpy(key, bytes, sizeof(key));
  unsigned char made[kChachaBytes];
  for (unsigned block = 0; block < kChachaBlocks; ++block) {
    chacha_blocks(key, 0x0900000000000001 - block, 0x4a000000, made);
    EXPECT_EQ(hex(made + block * 64, 64),
              "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
              "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e")
        << block;
  }
}

TEST(Base64, IsThatOfRfc4648WithoutPadding) {
  TraceId id;
  std::copy_n("Many hands make ", sizeof(id), id);
  EXPECT_EQ(base64(id), "TWFueSBoYW5kcyBtYWtlIA");
  std::memset(id, 0xff, sizeof(id));
  EXPECT_EQ(base64(id), "_____________________w");
  id[0] = 0xfb;
  EXPECT_EQ(base64(id), "-____________________w");
}

TEST(Base64, RefusesWhatItWouldNotWrite) {
  TraceId out;
  for (const char* text :
       {"", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAQA", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAB",
        "AAAAAAAAAAAAAAAAAAAA/Q", "AAAAAAAAAAAAAAAAAAAA Q", "AAAAAAAAAAAAAAAAAAAAA="}) {
    EXPECT_FALSE(decode(text, out)) << text;
  }
  for (const char last : std::string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")) {
    const bool valid = last == 'A' || last == 'Q' || last == 'g' || last == 'w';
    EXPECT_EQ(decode("B" + std::string(20, 'A') + last, out), valid) << last;
  }
}

TEST(Hex, ConvertsBothWays) {
  const unsigned char bytes[] = {0x00, 0x0f, 0xf0, 0xff, 0x9a};
  EXPECT_EQ(hex(bytes, sizeof(bytes)), "000ff0ff9a");
  unsigned char back[5];
  ASSERT_TRUE(decode_hex("000ff0ff9a", back, 5, false));
  EXPECT_EQ(std::memcmp(bytes, back, 5), 0);
  EXPECT_FALSE(decode_hex("000FF0FF9A", back, 5, false));
  EXPECT_TRUE(decode_hex("000FF0FF9A", back, 5, true));
  EXPECT_EQ(std::memcmp(bytes, back, 5), 0);
  EXPECT_FALSE(decode_hex("000ff0ff9", back, 5, true));
  EXPECT_FALSE(decode_hex("000ff0ff9a0", back, 5, true));
  EXPECT_FALSE(decode_hex("000ff0ff9g", back, 5, true));
  EXPECT_FALSE(decode_hex("000ff0ff 9", back, 5, true));
}

TEST(Hash, IsFnv1aOf128Bits) {
  TraceId id;
  nopspan_hashed_trace_id("", 0, id);
  EXPECT_EQ(hex(id, sizeof(id)), "6c62272e07bb014262b821756295c58d");
  nopspan_hashed_trace_id("a", 1, id);
  EXPECT_EQ(hex(id, sizeof(id)), "d228cb696f1a8caf78912b704e4a8964");
}

TEST(Ids, AreNeverZeroAndDiffer) {
  ThreadState* thread = thread_state();
  ASSERT_NE(thread, nullptr);
  std::set<std::uint64_t> spans;
  std::set<std::string> traces;
  for (int i = 0; i < 2000; ++i) {
    TraceId id;
    make_trace_id(thread, id);
    EXPECT_FALSE(all_zero(id, sizeof(id)));
    traces.insert(hex(id, sizeof(id)));
    spans.insert(make_span_id(thread));
  }
  EXPECT_EQ(spans.count(0), 0U);
  EXPECT_EQ(spans.size(), 2000U);
  EXPECT_EQ(traces.size(), 2000U);
}

TEST(Ids, ComeOutOfAGeneratorThatWasAllZeroToo) {
  ThreadState* thread = thread_state();
  ASSERT_NE(thread, nullptr);
  std::memset(thread->random.state, 0, sizeof(thread->random.state));
  EXPECT_NE(make_span_id(thread), 0U);
}

}  // namespace
