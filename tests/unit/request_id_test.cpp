// SPDX-License-Identifier: Apache-2.0
// Request ids: generated ones, and supplied ones in every form.
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <nopspan/probes.h>

#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using nopspan::RequestId;
using ::testing::MatchesRegex;

// Converts 22 characters of URL-safe Base64 to hexadecimal digits.
std::string hex_of(std::string_view id) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  constexpr char kDigits[] = "0123456789abcdef";
  std::string bits;
  for (const char c : id) {
    const std::size_t value = kAlphabet.find(c);
    for (int bit = 5; bit >= 0; --bit) bits += ((value >> static_cast<unsigned>(bit)) & 1U) != 0 ? '1' : '0';
  }
  std::string hex;
  for (std::size_t i = 0; i + 4 <= 128; i += 4) hex += kDigits[std::stoul(bits.substr(i, 4), nullptr, 2)];
  return hex;
}

TEST(RequestId, HasItsShape) {
  for (int i = 0; i < 200; ++i) {
    const std::string id = nopspan::make_request_id();
    EXPECT_EQ(id.size(), 22U);
    // GoogleTest's own regular expressions do not support {n}.
    EXPECT_EQ(id.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"),
              std::string::npos);
    EXPECT_NE(std::string("AQgw").find(id.back()), std::string::npos);
  }
}

TEST(RequestId, IsUniqueAcrossThreads) {
  std::vector<std::vector<std::string>> made(4);
  std::vector<std::thread> threads;
  for (auto& mine : made) {
    threads.emplace_back([&mine] {
      for (int i = 0; i < 1000; ++i) mine.emplace_back(nopspan::make_request_id());
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::set<std::string> all;
  for (const auto& mine : made) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 4000U);
}

TEST(RequestId, ConvertsToTheTraceIdAndBack) {
  for (int i = 0; i < 100; ++i) {
    const RequestId id = nopspan::make_request_id();
    const Context context = Context::with_request_id(id);
    EXPECT_EQ(context.request_id(), id);
    EXPECT_EQ(std::string(context.trace_id()), hex_of(id));
  }
  EXPECT_EQ(Context::with_request_id("AAAAAAAAAAAAAAAAAAAAAQ").trace_id(), "00000000000000000000000000000001");
  EXPECT_EQ(Context::with_request_id("_____________________w").trace_id(), "ffffffffffffffffffffffffffffffff");
}

TEST(RequestId, OfAContextThatWasMadeIsOfThatShape) {
  const Context context = Context::make();
  EXPECT_FALSE(context.empty());
  EXPECT_TRUE(context.sampled());
  EXPECT_EQ(context.span_id(), 0U);
  EXPECT_EQ(hex_of(context.request_id()), context.trace_id().view());
}

TEST(RequestId, ThatWouldNotConvertBackIsForeign) {
  // In the first, the last of 22 characters has bits that do not belong to the id. The second is the id zero.
  for (const char* id : {"AAAAAAAAAAAAAAAAAAAAAB", "AAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA+Q"}) {
    const Context context = Context::with_request_id(id);
    EXPECT_EQ(context.request_id(), id);
    EXPECT_NE(context.trace_id(), std::string(32, '0'));
    EXPECT_EQ(context.trace_id().size(), 32U);
  }
}

TEST(RequestId, OfThirtyTwoHexadecimalDigitsIsTheTraceId) {
  const Context lower = Context::with_request_id("0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(lower.trace_id(), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(lower.request_id(), "0af7651916cd43dd8448eb211c80319c");
  const Context upper = Context::with_request_id("0AF7651916CD43DD8448EB211C80319C");
  EXPECT_EQ(upper.trace_id(), "0af7651916cd43dd8448eb211c80319c");
  EXPECT_EQ(upper.request_id(), "0AF7651916CD43DD8448EB211C80319C");
  EXPECT_NE(Context::with_request_id(std::string(32, '0')).trace_id(), std::string(32, '0'));
}

TEST(RequestId, OfAnotherShapeStaysVisibleAndIsHashed) {
  const Context context = Context::with_request_id("order-7");
  EXPECT_EQ(context.request_id(), "order-7");
  EXPECT_EQ(context.trace_id().size(), 32U);
  EXPECT_EQ(context.trace_id(), Context::with_request_id(std::string("order-7")).trace_id());
  EXPECT_NE(context.trace_id(), Context::with_request_id("order-8").trace_id());
}

TEST(RequestId, OfAnotherShapeIsOnTheEventsOfItsSpans) {
  const SpanRecorder recorder("work");
  {
    const ContextScope here{Context::with_request_id("order-7")};
    const Span span{"work"};
    EXPECT_EQ(span.request_id(), "order-7");
    EXPECT_EQ(nopspan::request_id(), "order-7");
  }
  EXPECT_EQ(recorder.stop()->request_id(), "order-7");
  EXPECT_NE(recorder.stop()->flags() & NOPSPAN_FLAG_FOREIGN_ID, 0U);
}

TEST(RequestId, ThatIsTooLongIsCutVisiblyAndCounted) {
  const Counted truncated(&nopspan::Stats::truncated);
  const std::string longest(63, 'i');
  EXPECT_EQ(Context::with_request_id(longest).request_id(), longest);
  EXPECT_EQ(truncated.times(), 0U);
  const Context one = Context::with_request_id(std::string(100, 'i') + "1");
  const Context two = Context::with_request_id(std::string(100, 'i') + "2");
  EXPECT_EQ(truncated.times(), 2U);
  EXPECT_EQ(one.request_id(), std::string(60, 'i') + "\u2026");
  EXPECT_NE(one.trace_id(), two.trace_id());  // the hash covers the whole id
}

TEST(RequestId, WithBytesThatCannotStayIsMended) {
  EXPECT_EQ(Context::with_request_id(std::string("a\0b\n", 4)).request_id(), "a?b?");
  EXPECT_EQ(Context::with_request_id("\xff\xfe").request_id(), "??");
  EXPECT_EQ(Context::with_request_id("naïve").request_id(), "naïve");
}

TEST(RequestId, ThatIsEmptyIsMadeAndCounted) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  const Context context = Context::with_request_id("");
  EXPECT_EQ(context.request_id().size(), 22U);
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(RequestId, OfAnEmptyContextIsEmpty) {
  EXPECT_TRUE(Context().request_id().empty());
  EXPECT_TRUE(Context().trace_id().empty());
  EXPECT_FALSE(static_cast<bool>(Context()));
}

}  // namespace
