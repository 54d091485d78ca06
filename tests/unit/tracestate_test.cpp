// SPDX-License-Identifier: Apache-2.0
// W3C Trace Context: tracestate (https://www.w3.org/TR/trace-context/, "Tracestate Header").
#include "in_child.h"
#include "recorded.h"

#include <nopspan/context.h>
#include <nopspan/fiber.h>
#include <nopspan/span.h>

#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace {

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
}

TEST(Tracestate, GoesOutOfSpansToo) {
  const Recorder recorder{"inner.start"};
  const ContextScope here{Context::from_traceparent(kTraceparent, "congo=1")};
  const Span outer{"outer"};
  const Span inner{"inner"};
  EXPECT_EQ(inner.context().tracestate(), "congo=1");
}

TEST(Tracestate, GoesOutWithTheGateDown) {
  const ContextScope here{Context::from_traceparent(kTraceparent, "congo=1")};
  const Span untraced{"work"};
  EXPECT_EQ(Context::current().tracestate(), "congo=1");
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
  EXPECT_EQ(passed_on(std::string(241, 't') + "@" + std::string(14, 's') + "=1"),
            std::string(241, 't') + "@" + std::string(14, 's') + "=1");
  EXPECT_EQ(passed_on(k256 + "k=1"), "");
  EXPECT_EQ(passed_on("a=v" + v256), "");
  EXPECT_EQ(passed_on(std::string(242, 't') + "@s=1"), "");
  EXPECT_EQ(passed_on("t@" + std::string(15, 's') + "=1"), "");
}

TEST(Tracestate, ThatIsMalformedIsLeftOutAndTheTraceparentStays) {
  const std::vector<std::string> malformed{
      "foo",         "foo=",         "=1",          "foo=1,bar",  "foo =1",        "foo= ",       "FOO=1",
      "foo.bar=1",   "foo@=1",       "@foo=1",      "foo@@bar=1", "foo@bar@baz=1", "foo=bar=baz", "foo=1,foo=1",
      "foo=1,foo=2", "foo=\xc3\xa9", "f\xc3\xa9=1", "foo=a\tb",   "foo=a\nb",      "fo o=1",      "foo=1;bar=2,x",
      "_foo=1",      "a@0b=1",
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
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      const std::string mine = "k=" + std::string(100, static_cast<char>('a' + t));
      for (int i = 0; i < 3000; ++i) {
        const std::string back = passed_on(mine);
        ASSERT_TRUE(back == mine || back.empty()) << back;  // it may have been evicted in between
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
