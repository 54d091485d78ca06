// SPDX-License-Identifier: Apache-2.0
// Scopes that end where they must not: on another thread, after their thread, or in the wrong order.
#include "fault.h"
#include "sanitizers.h"

#include <nopspan/context.h>
#include <nopspan/coroutine.h>
#include <nopspan/span.h>

#include <cstring>
#include <deque>
#include <new>
#include <optional>
#include <thread>

namespace {

using nopspan::Context;
using nopspan::ContextScope;
using nopspan::Span;

struct Coroutine : nopspan::CoroutineContext {
  explicit Coroutine(const Context& context) { exchange(context); }
};

// An object in memory that is overwritten after the object was destroyed, as the next owner of the memory does.
template <class T>
class Overwritten {
 public:
  template <class Argument>
  explicit Overwritten(const Argument& argument) : object_(new (memory_) T(argument)) {}
  ~Overwritten() {
    object_->~T();
    std::memset(memory_, 0x41, sizeof(memory_));
  }
  Overwritten(const Overwritten&) = delete;
  Overwritten& operator=(const Overwritten&) = delete;

 private:
  alignas(T) unsigned char memory_[sizeof(T)] = {};
  T* object_;
};

void expect_no_context() {
  EXPECT_TRUE(Context::current().empty());
  EXPECT_TRUE(nopspan::request_id().empty());
  const CountingHandler handler({"later"});
  { const Span span{"later"}; }
  EXPECT_EQ(handler.starts, 1U);
  EXPECT_EQ(handler.ends, 1U);
  EXPECT_EQ(handler.last_parent, 0U);
  EXPECT_TRUE(Context::current().empty());
}

template <class Scope, class Argument>
void end_on_another_thread(const Argument& argument) {
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  // Static, because the thread's stack of contexts may have its address.
  static std::optional<Overwritten<Scope>> scope;
  scope.emplace(argument);
  std::thread([] { scope.reset(); }).join();
  EXPECT_EQ(wrong_thread.times(), 1U);
  expect_no_context();
}

TEST(ScopeFaults, AContextScopeMayEndOnAnotherThread) { end_on_another_thread<ContextScope>(Context::make()); }

TEST(ScopeFaults, AContextScopeMayEndOnAnotherThreadWhileTheGateIsUp) {
  const CountingHandler handler({"work"});
  end_on_another_thread<ContextScope>(Context::make());
}

TEST(ScopeFaults, TheContextOfACoroutineMayEndOnAnotherThread) { end_on_another_thread<Coroutine>(Context::make()); }

TEST(ScopeFaults, ASpanMayEndOnAnotherThread) {
  const CountingHandler handler({"work"});
  end_on_another_thread<Span>(nopspan::Name("work"));
  EXPECT_EQ(handler.ends, 1U);
}

TEST(ScopeFaults, AScopeThatOutlivesItsThreadTouchesNoOtherThread) {
  const Counted left(&nopspan::Stats::scopes_left);
  std::optional<Overwritten<ContextScope>> ended_here;
  std::optional<Overwritten<ContextScope>> ended_by_heir;
  std::thread([&] {
    ended_here.emplace(Context::make());
    ended_by_heir.emplace(Context::make());
  }).join();
  std::thread([&] {  // takes over the state of the thread that ended
    const Context first = Context::make();
    const Context second = Context::make();
    const ContextScope outer(first);
    {
      const ContextScope inner(second);
      ended_by_heir.reset();
      EXPECT_EQ(nopspan::request_id().view(), second.request_id().view());
    }
    EXPECT_EQ(nopspan::request_id().view(), first.request_id().view());
    std::thread([&] { ended_here.reset(); }).join();
    EXPECT_EQ(nopspan::request_id().view(), first.request_id().view());
  })
      .join();
  EXPECT_EQ(left.times(), 2U);
  expect_no_context();
}

TEST(ScopeFaults, ManyScopesMayEndOutermostFirst) {
  constexpr std::size_t kScopes = 20'000;
  struct Level {
    std::optional<Span> span;
    std::optional<ContextScope> scope;
  };
  const CountingHandler handler({"work"});
  std::vector<Level> levels(kScopes);
  for (std::size_t i = 0; i < kScopes; ++i) {
    if (i % 2 == 0) {
      levels[i].span.emplace("work");
    } else {
      levels[i].scope.emplace(Context::current());
    }
  }
  for (Level& level : levels) {
    level.span.reset();
    level.scope.reset();
  }
  EXPECT_EQ(handler.starts, kScopes / 2);
  EXPECT_EQ(handler.ends, kScopes / 2);
  expect_no_context();
}

// As on an event loop: the scopes of the next requests begin before other threads end those of the former ones, so the
// newest are always open.
template <class Scope, class Argument>
void overlap(std::size_t scopes, const Argument& argument) {
  constexpr std::size_t kAtOnce = 100;
  std::deque<Scope> open;
  const std::uint64_t before = resident_bytes();
  const Counted dropped(&nopspan::Stats::spans_dropped), not_current(&nopspan::Stats::contexts_dropped);
  while (scopes > 0) {
    for (std::size_t i = 0; i < kAtOnce; ++i, --scopes) open.emplace_back(argument);
    std::thread([&] {
      while (open.size() > kAtOnce) open.pop_front();
    }).join();
  }
  if (!kThreadSanitizer && !kAddressSanitizer) {  // they have memory of their own
    EXPECT_LT(resident_bytes() - before, std::uint64_t{5} << 20U);
  }
  EXPECT_EQ(dropped.times() + not_current.times(), 0U);
  while (!open.empty()) open.pop_back();
  expect_no_context();
}

TEST(ScopeFaults, OverlappingSpansThatOtherThreadsEndReuseTheirMemory) {
  const CountingHandler handler({"work"});
  overlap<Span>(40'000, nopspan::Name("work"));
  EXPECT_EQ(handler.ends, 40'000U);
}

TEST(ScopeFaults, OverlappingContextsThatOtherThreadsEndReuseTheirMemory) {
  overlap<ContextScope>(100'000, Context::make());
}

}  // namespace
