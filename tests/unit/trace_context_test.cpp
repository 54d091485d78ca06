// SPDX-License-Identifier: Apache-2.0
// The ids of requests, and the headers traceparent and tracestate.
#include "in_child.h"
#include "in_thread.h"
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/fiber.h>
#include <nopspan/probes.h>

#include <memory>
#include <optional>
#include <set>

namespace {

// ---- W3C Trace Context: traceparent (https://www.w3.org/TR/trace-context/, "Traceparent Header", "Versioning of
// traceparent").

const std::string kTraceId = "0af7651916cd43dd8448eb211c80319c";
const std::string kParentId = "b7ad6b7169203331";
const std::string kHeader = "00-" + kTraceId + "-" + kParentId + "-01";
constexpr std::uint64_t kParent = 0xb7ad6b7169203331;

TEST(Traceparent, NamesTraceParentAndSampling) {
  const Context context = Context::from_traceparent(kHeader);
  EXPECT_EQ(context.trace_id(), kTraceId);
  EXPECT_EQ(context.span_id(), kParent);
  EXPECT_TRUE(context.sampled());
  EXPECT_EQ(context.root_id(), 0U);
  EXPECT_EQ(context.request_id().size(), 22U);
  EXPECT_FALSE(Context::from_traceparent("00-" + kTraceId + "-" + kParentId + "-00").sampled());
}

TEST(Traceparent, GoesOutAsItCameInWithTheGateDown) {
  for (const char* flags : {"00", "01", "02", "03", "09", "ff"}) {
    const std::string header = "00-" + kTraceId + "-" + kParentId + "-" + flags;
    const ContextScope here{Context::from_traceparent(header)};
    const Span untraced{"work"};
    EXPECT_EQ(Context::current().traceparent(), header);
    EXPECT_EQ(untraced.context().traceparent(), header);
  }
}

TEST(Traceparent, IsTheParentOfSpans) {
  const SpanRecorder recorder("work");
  {
    const ContextScope here{Context::from_traceparent(kHeader)};
    const Span span{"work"};
    EXPECT_EQ(span.context().trace_id(), kTraceId);
    const std::string out = span.context().traceparent();
    EXPECT_EQ(out.substr(0, 36), "00-" + kTraceId + "-");
    EXPECT_EQ(out.substr(52), "-01");
    EXPECT_EQ(std::stoull(out.substr(36, 16), nullptr, 16), id_of(span));
    EXPECT_NE(id_of(span), kParent);
  }
  EXPECT_EQ(recorder.start()->parent_id(), kParent);
  EXPECT_NE(recorder.start()->flags() & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
  EXPECT_NE(recorder.start()->flags() & NOPSPAN_FLAG_SAMPLED, 0U);
  EXPECT_FALSE(recorder.start()->is_orphan());
  EXPECT_EQ(recorder.start()->context().root_id(), recorder.start()->span_id());
}

TEST(Traceparent, OfASpanInsideIsNotRemote) {
  const Recorder recorder{"inner.start"};
  {
    const ContextScope here{Context::from_traceparent(kHeader)};
    const Span outer{"outer"};
    const Span inner{"inner"};
  }
  EXPECT_EQ(recorder.events().at(0)->flags() & NOPSPAN_FLAG_REMOTE_PARENT, 0U);
}

TEST(Traceparent, OfASpanKeepsOnlyTheFlagsThatAreDefined) {
  const SpanRecorder recorder("work");
  const ContextScope here{Context::from_traceparent("00-" + kTraceId + "-" + kParentId + "-ff")};
  const Span span{"work"};
  EXPECT_EQ(std::string(span.context().traceparent()).substr(53), "03");  // sampled and random
}

TEST(Traceparent, OfARequestWithoutASpanHasAParentThatIsNotZeroAndStaysTheSame) {
  const Context context = Context::make();
  const std::string header = context.traceparent();
  EXPECT_EQ(header, std::string(context.traceparent()));
  EXPECT_EQ(header.size(), 55U);
  const Context back = Context::from_traceparent(header);
  EXPECT_EQ(back.trace_id(), context.trace_id());
  EXPECT_NE(back.span_id(), 0U);
  EXPECT_TRUE(back.sampled());
  // The half of the trace id that becomes the parent id may itself be zero.
  EXPECT_FALSE(
      Context::from_traceparent(Context::with_request_id("0af7651916cd43dd0000000000000000").traceparent()).empty());
}

TEST(Traceparent, OfALaterVersionIsReadAsFarAsItIsKnown) {
  const std::string known = kTraceId + "-" + kParentId + "-01";
  for (const std::string& header : {"01-" + known, "01-" + known + "-", "cc-" + known + "-what-the-future-will-be-like",
                                    "fe-" + known + "-" + std::string(500, 'x')}) {
    const Context context = Context::from_traceparent(header);
    EXPECT_EQ(context.trace_id(), kTraceId) << header;
    EXPECT_EQ(context.span_id(), kParent) << header;
    EXPECT_TRUE(context.sampled()) << header;
    // "Vendors MUST use these fields to construct the new traceparent according to the highest version known."
    EXPECT_EQ(context.traceparent(), kHeader) << header;
  }
  // In later versions, only this flag bit is known.
  EXPECT_EQ(Context::from_traceparent("01-" + kTraceId + "-" + kParentId + "-ff").traceparent(), kHeader);
}

TEST(Traceparent, MayHaveBlanksAroundIt) {
  for (const char* blanks : {" ", "\t", " \t"}) {
    EXPECT_EQ(Context::from_traceparent(blanks + kHeader + blanks).traceparent(), kHeader);
  }
}

TEST(Traceparent, ThatIsMalformedIsIgnoredAndCounted) {
  const std::string zeros(32, '0');
  const std::vector<std::string> malformed{
      "00",
      "garbage",
      "ff-" + kTraceId + "-" + kParentId + "-01",                   // forbidden version
      "00-" + kTraceId + "-" + kParentId + "-01-what-comes-after",  // version 00 is exactly this long
      "00-" + kTraceId + "-" + kParentId + "-01.",
      "00-" + kTraceId + "-" + kParentId + "-01-",
      "01-" + kTraceId + "-" + kParentId + "-01.what",  // a later version continues with a dash
      "cc-" + kTraceId + "-" + kParentId + "-0",        // shorter than 55
      "00-" + kTraceId + "-" + kParentId + "-1",
      "00-" + kTraceId + "-" + kParentId,
      "00-" + kTraceId + "-" + kParentId + "-0x",
      "00-" + kTraceId + "-" + kParentId + "-.0",
      "00-" + kTraceId + "-" + kParentId + "-0A",  // upper case
      "0A-" + kTraceId + "-" + kParentId + "-01",
      "00-0AF7651916CD43DD8448EB211C80319C-" + kParentId + "-01",
      "00-" + kTraceId + "-B7AD6B7169203331-01",
      "00-" + zeros + "-" + kParentId + "-01",  // all zero
      "00-" + kTraceId + "-0000000000000000-01",
      "00-.af7651916cd43dd8448eb211c80319c-" + kParentId + "-01",  // not a hexadecimal digit
      "00-" + kTraceId + "-b7ad6b716920333g-01",
      ".0-" + kTraceId + "-" + kParentId + "-01",
      "00_" + kTraceId + "-" + kParentId + "-01",  // the dashes
      "00-" + kTraceId + "_" + kParentId + "-01",
      "00-" + kTraceId + "-" + kParentId + "_01",
      "000-" + kTraceId + "-" + kParentId + "-01",  // lengths
      "00-" + kTraceId + "0-" + kParentId + "-01",
      "00-" + kTraceId.substr(1) + "-0" + kParentId + "-01",
      "00- " + kTraceId + "-" + kParentId + "-01",
      kHeader + std::string(1, '\0'),
  };
  const Counted invalid(&nopspan::Stats::invalid_ids);
  for (const std::string& header : malformed) {
    const Context context = Context::from_traceparent(header, "a=1");
    EXPECT_TRUE(context.empty() && context.tracestate().empty() && context.traceparent().empty()) << header;
  }
  EXPECT_EQ(invalid.times(), malformed.size());
}

TEST(Traceparent, ThatIsNotThereIsNoMistake) {
  const Counted invalid(&nopspan::Stats::invalid_ids);
  EXPECT_TRUE(Context::from_traceparent("", "a=1").empty());
  EXPECT_TRUE(Context::from_traceparent(nullptr).empty());
  EXPECT_EQ(invalid.times(), 0U);
}

// ---- W3C Trace Context: tracestate (https://www.w3.org/TR/trace-context/, "Tracestate Header").

constexpr const char* kTraceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

std::string passed_on(const std::string& tracestate) {
  return Context::from_traceparent(kTraceparent, tracestate).tracestate();
}

std::string members(int count) {
  std::string list;
  for (int i = 0; i < count; ++i) list += (i > 0 ? ",k" : "k") + std::to_string(i) + "=v";
  return list;
}

// The trace id is a hash, whose last bytes are not random.
TEST(Tracestate, HasTheRandomnessOfAnApplicationsId) {
  const Context here = Context::with_request_id("order-4711");
  EXPECT_EQ(here.tracestate(), "ot=rv:fcace3d2510757");
  const Context there = Context::from_traceparent(here.traceparent(), here.tracestate());
  EXPECT_EQ(there.tracestate(), here.tracestate());
  EXPECT_EQ(Context::with_request_id("0AF7651916cd43dd8448eb211c80319c").tracestate(), "") << "not hashed";
  EXPECT_EQ(Context::with_request_id("4mrze8BI0VniavN7wALnzQ").tracestate(), "") << "an id of this library";
  EXPECT_EQ(Context::make().tracestate(), "");
}

TEST(Tracestate, GoesOutAsItCameIn) {
  EXPECT_EQ(passed_on("congo=t61rcWkgMzE"), "congo=t61rcWkgMzE");
  EXPECT_EQ(passed_on("rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"), "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE");
  EXPECT_EQ(passed_on("fw529a3039@dt=FfIKA,a-_*/9=!\"#$%&'()*+-./:;<>?@[]^`{|}~"),
            "fw529a3039@dt=FfIKA,a-_*/9=!\"#$%&'()*+-./:;<>?@[]^`{|}~");
  EXPECT_EQ(passed_on("0digit@s=1"), "0digit@s=1");
  EXPECT_EQ(passed_on("0digit=1"), "0digit=1");
  EXPECT_EQ(passed_on("a= 1  2"), "a= 1  2");
  // Level 2: "@" may be anywhere behind the first character of a key, and a key may occur twice.
  for (const char* text :
       {"foo@=1,bar=2", "foo@@bar=1,bar=2", "foo@bar@baz=1,bar=2", "a@0b=1", "foo=1,foo=1", "foo=1,foo=2"}) {
    EXPECT_EQ(passed_on(text), text);
  }
}

TEST(Tracestate, GoesOutOfSpansToo) {
  const Recorder recorder{"inner.start"};
  const ContextScope here{Context::from_traceparent(kTraceparent, "congo=1")};
  const Span outer{"outer"};
  const Span inner{"inner"};
  EXPECT_EQ(inner.context().tracestate(), "congo=1");
}

TEST(Tracestate, LosesBlanksAndEmptyMembers) {
  const Counted invalid(&nopspan::Stats::invalid_tracestate);
  EXPECT_EQ(passed_on("a=1 , b=2"), "a=1,b=2");
  EXPECT_EQ(passed_on("\ta=1\t,\t b=2 \t"), "a=1,b=2");
  EXPECT_EQ(passed_on(",a=1,, ,b=2,"), "a=1,b=2");
  EXPECT_EQ(passed_on(""), "");
  EXPECT_EQ(passed_on(" ,\t,"), "");
  EXPECT_EQ(invalid.times(), 0U);  // all of these are allowed
}

TEST(Tracestate, MayHaveThirtyTwoMembersAndNoMore) {
  const Counted invalid(&nopspan::Stats::invalid_tracestate);
  EXPECT_EQ(passed_on(members(32)), members(32));
  EXPECT_EQ(passed_on(members(32) + ", ,"), members(32));
  EXPECT_EQ(invalid.times(), 0U);
  EXPECT_EQ(passed_on(members(33)), "");
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(Tracestate, HasKeysAndValuesOfLimitedLength) {
  const std::string k256(256, 'k');
  const std::string v256(256, 'v');
  EXPECT_EQ(passed_on(k256 + "=1"), k256 + "=1");
  EXPECT_EQ(passed_on("a=" + v256), "a=" + v256);
  EXPECT_EQ(passed_on(std::string(242, 't') + "@v=1"), std::string(242, 't') + "@v=1");
  EXPECT_EQ(passed_on("t@" + std::string(254, 'v') + "=1"), "t@" + std::string(254, 'v') + "=1");
  EXPECT_EQ(passed_on(k256 + "k=1"), "");
  EXPECT_EQ(passed_on("a=v" + v256), "");
  EXPECT_EQ(passed_on("t@" + std::string(255, 'v') + "=1"), "");
}

TEST(Tracestate, ThatIsMalformedIsLeftOutAndTheTraceparentStays) {
  const std::vector<std::string> malformed{
      "foo",      "foo=",      "=1",     "foo=1,bar",     "foo =1",       "foo= ",
      "FOO=1",    "foo.bar=1", "@foo=1", "foo=bar=baz",   "foo=\xc3\xa9", "f\xc3\xa9=1",
      "foo=a\tb", "foo=a\nb",  "fo o=1", "foo=1;bar=2,x", "_foo=1",
  };
  const Counted invalid(&nopspan::Stats::invalid_tracestate);
  for (const std::string& text : malformed) {
    const Context context = Context::from_traceparent(kTraceparent, text);
    EXPECT_EQ(context.tracestate(), "") << text;
    EXPECT_EQ(context.traceparent(), kTraceparent) << text;
  }
  EXPECT_EQ(passed_on(std::string("foo=a\0b", 7)), "");
  EXPECT_EQ(invalid.times(), malformed.size() + 1);
}

TEST(Tracestate, OverItsLimitLosesWholeMembersTheLongFirst) {
  const Counted invalid(&nopspan::Stats::invalid_tracestate);
  const std::string long_one = "long=" + std::string(200, 'l');
  const std::string other_long = "other=" + std::string(200, 'o');
  std::string list =
      "first=1," + long_one + ",short=2," + other_long + "," + std::string("last=") + std::string(110, 'x');
  ASSERT_GT(list.size(), 512U);
  // Dropping the last of the long members makes the list fit.
  EXPECT_EQ(passed_on(list), "first=1," + long_one + ",short=2,last=" + std::string(110, 'x'));
  EXPECT_EQ(invalid.times(), 1U);
}

TEST(Tracestate, OverItsLimitLosesMembersFromTheEnd) {
  std::string list;
  std::string kept;
  for (int i = 0; i < 6; ++i) {
    const std::string member = "k" + std::to_string(i) + "=" + std::string(97, 'v');
    if (i > 0) list += ",";
    list += member;
    if (i == 4) kept = list;
  }
  ASSERT_EQ(kept.size(), 504U);
  EXPECT_EQ(passed_on(list), kept);
  const std::string exact = kept + ",z=" + std::string(5, 'z');
  ASSERT_EQ(exact.size(), 512U);
  EXPECT_EQ(passed_on(exact), exact);
  EXPECT_EQ(passed_on(exact + "z"), kept);
}

TEST(Tracestate, StoreForgetsTheOldestAndSaysSo) {
  expect_in_child([] {
    const Counted evicted(&nopspan::Stats::tracestate_evicted);
    const Context oldest = Context::from_traceparent(kTraceparent, "oldest=1");
    for (int i = 0; i < 32767; ++i) passed_on("k=" + std::to_string(i));
    EXPECT_EQ(oldest.tracestate(), "oldest=1");
    EXPECT_EQ(evicted.times(), 0U);
    const Context newest = Context::from_traceparent(kTraceparent, "newest=1");
    EXPECT_EQ(oldest.tracestate(), "");
    EXPECT_EQ(oldest.traceparent(), kTraceparent);
    EXPECT_EQ(newest.tracestate(), "newest=1");
    EXPECT_EQ(evicted.times(), 1U);
  });
}

TEST(Tracestate, OfARequestThatStillRunsIsKept) {
  expect_in_child([] {
    const Counted evicted(&nopspan::Stats::tracestate_evicted);
    const std::string longest = "long=" + std::string(256, 'v') + ",more=" + std::string(240, 'w');
    std::optional<ContextScope> running, other;
    running.emplace(Context::from_traceparent(kTraceparent, longest));
    nopspan::SuspendedScopes fiber = nopspan::suspend_scopes();
    other.emplace(Context::from_traceparent(kTraceparent, "short=1"));
    for (int i = 0; i < 100'000; ++i) passed_on("k=" + std::to_string(i));
    EXPECT_EQ(Context::current().tracestate(), "short=1");
    other.reset();
    nopspan::resume_scopes(std::move(fiber));
    EXPECT_EQ(Context::current().tracestate(), longest);
    EXPECT_EQ(evicted.times(), 0U);
    running.reset();
  });
}

TEST(Tracestate, IsNotForwardedIfTooManyRequestsRun) {
  expect_in_child([] {
    const Counted evicted(&nopspan::Stats::tracestate_evicted);
    std::vector<std::unique_ptr<ContextScope>> running;
    for (int i = 0; i < 32768; ++i) {
      const Context context = Context::from_traceparent(kTraceparent, "k=" + std::to_string(i));
      running.push_back(std::make_unique<ContextScope>(context));
    }
    EXPECT_EQ(passed_on("newest=1"), "");
    EXPECT_EQ(evicted.times(), 1U);
    for (int i = 32767; i >= 0; --i) {
      ASSERT_EQ(Context::current().tracestate(), "k=" + std::to_string(i));
      running.pop_back();
    }
    std::string newest;
    while (newest.empty()) newest = passed_on("newest=2");  // until the search for a place is paid
    EXPECT_EQ(newest, "newest=2");
  });
}

TEST(Tracestate, IsWholeWhoeverStoresMeanwhile) {
  in_threads(4, [](int t) {
    const std::string mine = "k=" + std::string(100, static_cast<char>('a' + t));
    for (int i = 0; i < 3000; ++i) {
      const std::string back = passed_on(mine);
      ASSERT_TRUE(back == mine || back.empty()) << back;  // it may have been evicted in between
    }
  });
}

// ---- Request ids: generated ones, and supplied ones in every form.

using nopspan::RequestId;

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

TEST(RequestId, IsUniqueAcrossThreads) {
  std::vector<std::string> made[4];
  in_threads(4, [&](int t) {
    for (int i = 0; i < 1000; ++i) made[t].emplace_back(nopspan::make_request_id());
  });
  std::set<std::string> all;
  for (const auto& mine : made) all.insert(mine.begin(), mine.end());
  EXPECT_EQ(all.size(), 4000U);
}

TEST(RequestId, ConvertsToTheTraceIdAndBack) {
  for (int i = 0; i < 100; ++i) {
    const RequestId id = nopspan::make_request_id();
    EXPECT_EQ(id.size(), 22U);
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

}  // namespace
