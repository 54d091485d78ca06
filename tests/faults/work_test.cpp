// SPDX-License-Identifier: Apache-2.0
// The work and the memory of one call do not grow without a bound. These tests count calls and bytes, and measure no
// time.
#include "allocator.h"
#include "every_call.h"
#include "fault.h"
#include "raised_gate.h"

#include <nopspan/llm.h>
#include <nopspan/span.h>

#include <signal.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <iterator>
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

// How much of an alternate signal stack is used if a new thread calls `handler` on it.
std::size_t stack_used(void (*handler)(int)) {
  static unsigned char stack[256 * 1024];
  constexpr unsigned char kUnused = 0x5a;
  std::memset(stack, kUnused, sizeof(stack));
  std::thread([&] {
    const stack_t alternate{stack, 0, sizeof(stack)};
    EXPECT_EQ(sigaltstack(&alternate, nullptr), 0);
    struct sigaction action {};
    action.sa_handler = handler;
    action.sa_flags = SA_ONSTACK;
    EXPECT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
    raise(SIGUSR1);
  }).join();
  const auto* const first = std::find_if(std::begin(stack), std::end(stack), [](auto byte) { return byte != kUnused; });
  return static_cast<std::size_t>(std::end(stack) - first);
}

TEST(WorkFaults, ASpanNeedsLittleStack) {
  const CountingHandler handler({"llm.misnamed"});
  ASSERT_EQ(nopspan::attach("reader", "llm.chat.stop", [](const Event& event) { (void)event.attributes(); }), Errc::ok);
  const RaisedGate tracer(RaisedGate::batch);
  static Call now;
  const auto used = [frame = stack_used([](int) {})] { return stack_used([](int) { now.make(1); }) - frame; };
  now = {"misnamed span", [](unsigned) { const Span span{"llm.misnamed"}; }};
  EXPECT_LT(used(), now.stack);
  now = {"chat", [](unsigned) {
           const Span span{nopspan::llm::chat, [](auto& metadata) {
                             metadata.model("gpt-4o").input_tokens(1).finish_reasons({"a", "b"});
                           }};
         }};
  EXPECT_LT(used(), now.stack);
  for (const Call& call : every_call) {
    now = call;
    EXPECT_LT(used(), now.stack) << now.what;
  }
  EXPECT_EQ(nopspan::detach("reader"), Errc::ok);
}

template <class Thrown>
void leave_a_span(int) {
  try {
    nopspan::span("work", [] { throw Thrown(); });
  } catch (...) {
  }
}

template <class T, unsigned count>
struct PointerTo {
  using Type = typename PointerTo<T*, count - 1>::Type;
};
template <class T>
struct PointerTo<T, 0> {
  using Type = T;
};

TEST(WorkFaults, ASpanThatAnExceptionLeavesNeedsABoundedStack) {
  const CountingHandler handler({"work"});
  const RaisedGate tracer(RaisedGate::batch);
  const std::size_t frame = stack_used([](int) {});
  for (const auto work :
       {leave_a_span<std::string>, leave_a_span<PointerTo<int, 120>::Type>, leave_a_span<PointerTo<int, 500>::Type>}) {
    EXPECT_LT(stack_used(work) - frame, 48 * 1024);  // the bound that span.h states
  }
}

}  // namespace
