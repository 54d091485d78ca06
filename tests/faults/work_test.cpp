// SPDX-License-Identifier: Apache-2.0
// The work and the memory of one call do not grow without a bound. These tests count calls and bytes, and measure no
// time.
#include "allocator.h"
#include "fault.h"

#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <thread>

namespace {

using nopspan::Errc;
using nopspan::Event;
using nopspan::Span;

TEST(WorkFaults, AHandlerThatMakesSpansOfItsOwnKindRunsOncePerSpan) {
  const Counted dropped(&nopspan::Stats::recursion_dropped);
  static unsigned calls;
  ASSERT_EQ(nopspan::attach("audit", "db.query.stop",
                            [](const Event&) {
                              if (++calls > 10'000) std::_Exit(1);  // it would take seconds
                              for (int i = 0; i < 3; ++i) const Span span{"db.query"};
                            }),
            Errc::ok);
  for (int i = 0; i < 10; ++i) const Span span{"db.query"};
  EXPECT_EQ(calls, 10U);
  EXPECT_EQ(dropped.times(), 30U);
  EXPECT_EQ(nopspan::detach("audit"), Errc::ok);
}

TEST(WorkFaults, HandlersMayAttachAndDetachWhileAnotherHandlerBlocks) {
  for (int i = 0; i < 100; ++i) {
    const std::string number = std::to_string(i);
    ASSERT_EQ(nopspan::attach("other" + number, "other" + number + ".stop", [](const Event&) {}), Errc::ok);
  }
  std::atomic<bool> blocked{false};
  std::atomic<bool> may_go_on{false};
  ASSERT_EQ(nopspan::attach("slow", "slow.stop",
                            [&](const Event&) {
                              blocked = true;
                              watch("other handlers", [&] { return may_go_on.load(); });
                            }),
            Errc::ok);
  ASSERT_EQ(nopspan::attach("busy", "busy.stop",
                            [](const Event&) {
                              EXPECT_EQ(nopspan::attach("short", "short.stop", [](const Event&) {}), Errc::ok);
                              EXPECT_EQ(nopspan::detach("short"), Errc::ok);
                            }),
            Errc::ok);
  std::thread slow([] { const Span span{"slow"}; });
  watch("the slow handler", [&] { return blocked.load(); });
  const std::uint64_t before = resident_bytes();
  for (int i = 0; i < 10'000 && !HasFailure(); ++i) {
    { const Span span{"busy"}; }
    if (i % 100 == 0) {
      EXPECT_LT(resident_bytes(), before + 16 * 1024 * 1024) << i << " times";
    }
  }
  may_go_on = true;
  slow.join();
  for (const nopspan::HandlerInfo& handler : nopspan::list_handlers()) EXPECT_EQ(nopspan::detach(handler.id), Errc::ok);
}

__thread std::uint64_t allocated_here = 0;

TEST(WorkFaults, AttachingManyHandlersAllocatesInProportion) {
  constexpr std::uint64_t kIds = 2000;
  const AllocatorHook hook([](std::size_t bytes) {
    allocated_here += bytes;
    return true;
  });
  for (std::uint64_t i = 0; i < kIds; ++i) {
    const std::string id = "id" + std::to_string(i);
    ASSERT_EQ(nopspan::attach(id, id + ".stop", [](const Event&) {}), Errc::ok);
  }
  EXPECT_EQ(nopspan::list_handlers().size(), kIds);
  for (std::uint64_t i = 0; i < kIds; ++i) ASSERT_EQ(nopspan::detach("id" + std::to_string(i)), Errc::ok);
  EXPECT_EQ(nopspan::list_handlers().size(), 0U);
  EXPECT_LT(allocated_here, kIds * 16 * 1024);
}

TEST(WorkFaults, DeeplyNestedSpansMayEachHaveTokens) {
  constexpr unsigned kDepth = 20'000;
  const CountingHandler handler({"work"});
  const std::function<void(unsigned)> nest_tokens = [&](unsigned depth) {
    const Span span{"work", [](nopspan::Fields& f) { f.input_tokens(10).output_tokens(1); }};
    if (depth > 1) nest_tokens(depth - 1);
  };
  nest_tokens(kDepth);
  EXPECT_EQ(handler.starts, kDepth);
  EXPECT_EQ(handler.ends, kDepth);
}

}  // namespace
