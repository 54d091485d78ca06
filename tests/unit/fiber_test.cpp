// SPDX-License-Identifier: Apache-2.0
// The scopes of suspended fibers, without stacks of fibers, so that sanitizers know what runs. tests/faults switches
// stacks.
#include "recorded.h"

#include <nopspan/fiber.h>

#include <memory>
#include <optional>
#include <set>
#include <thread>
#include <utility>
#include <vector>

namespace {

// What a fiber has on its stack.
struct Fiber {
  template <class Work>
  void run(const Work& work) {
    nopspan::resume_scopes(std::move(scopes));
    work();
    scopes = nopspan::suspend_scopes();
  }

  nopspan::SuspendedScopes scopes;
  std::optional<ContextScope> context;
  std::optional<Span> outer, inner;
};

TEST(Fibers, ThatInterleaveHaveRequestsOfTheirOwn) {
  const SpanRecorder outers("outer");
  const SpanRecorder inners("inner");
  const Counted left(&nopspan::Stats::scopes_left);
  Fiber fibers[2];
  for (Fiber& fiber : fibers) {
    fiber.run([&] { fiber.outer.emplace("outer"); });
  }
  EXPECT_TRUE(Context::current().empty());
  for (Fiber& fiber : fibers) {
    fiber.run([&] { fiber.inner.emplace("inner"); });
  }
  for (Fiber& fiber : fibers) {  // not in the order in which they began
    fiber.run([&] {
      EXPECT_EQ(Context::current().span_id(), id_of(*fiber.inner));
      fiber.inner.reset();
      fiber.outer.reset();
    });
    EXPECT_TRUE(fiber.scopes.empty());
  }
  const auto begun = events_of(outers, 2, "outer.start");
  const auto inside = events_of(inners, 2, "inner.start");
  EXPECT_NE(begun[0]->request_id(), begun[1]->request_id());
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_EQ(begun[i]->parent_id(), 0U);
    EXPECT_THAT(inside[i], IsChildOf(begun[i]));
  }
  EXPECT_EQ(left.times(), 0U);
}

TEST(Fibers, KeepTheirContextsWithTheGateDown) {
  const Context contexts[2] = {Context::make(), Context::make()};
  Fiber fibers[2];
  for (int i = 0; i < 2; ++i) fibers[i].run([&] { fibers[i].context.emplace(contexts[i]); });
  for (int i = 0; i < 2; ++i) {
    fibers[i].run([&] {
      EXPECT_EQ(nopspan::request_id().view(), contexts[i].request_id().view());
      fibers[i].context.reset();
    });
  }
  EXPECT_TRUE(Context::current().empty());
}

// Each fiber moves through threads that end, and its memory through theirs.
TEST(Fibers, MoveFromThreadToThread) {
  const SpanRecorder recorder("inner");
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  const Counted left(&nopspan::Stats::scopes_left);
  const auto move = [] {
    Fiber fiber;
    const Context context = Context::make();
    for (int thread = 0; thread < 50; ++thread) {
      std::thread([&] {
        const ContextScope of_the_thread{Context::make()};
        nopspan::SuspendedScopes own = nopspan::suspend_scopes();
        fiber.run([&] {
          if (thread == 0) fiber.context.emplace(context);
          if (thread == 0) fiber.outer.emplace("outer");
          { const Span inner{"inner"}; }
          if (thread == 49) fiber.outer.reset();
          if (thread == 49) fiber.context.reset();
        });
        nopspan::resume_scopes(std::move(own));
      }).join();
    }
    EXPECT_TRUE(fiber.scopes.empty());
  };
  std::thread other(move);
  move();
  other.join();
  const auto inside = events_of(recorder, 100, "inner.start");
  std::set<std::uint64_t> parents;
  for (const auto& event : inside) parents.insert(event->parent_id());
  EXPECT_EQ(parents.size(), 2U);
  EXPECT_EQ(wrong_thread.times(), 0U);
  EXPECT_EQ(left.times(), 0U);
}

TEST(Fibers, ThatAreDestroyedWhileSuspendedEndTheirSpans) {
  const SpanRecorder recorder("outer");
  const Counted left(&nopspan::Stats::scopes_left);
  const Counted abandoned(&nopspan::Stats::abandoned);
  alignas(Span) unsigned char span[sizeof(Span)];
  alignas(ContextScope) unsigned char scope[sizeof(ContextScope)];
  {
    Fiber fiber;
    fiber.run([&] {  // on a stack that nobody unwinds
      new (scope) ContextScope{Context::make()};
      new (span) Span{"outer"};
    });
    EXPECT_FALSE(fiber.scopes.empty());
  }
  EXPECT_THAT(recorder.stop(), HasStatus(Status::cancelled));
  EXPECT_EQ(abandoned.times(), 1U);
  EXPECT_EQ(left.times(), 1U);
  EXPECT_TRUE(Context::current().empty());
}

TEST(Fibers, MayBeManyAndLeaveNothing) {
  constexpr std::size_t kFibers = 100'000;
  const SpanRecorder recorder("none.of.them");  // so that spans are recorded
  const Counted dropped(&nopspan::Stats::spans_dropped);
  std::vector<Fiber> fibers(kFibers);
  for (int round = 0; round < 2; ++round) {
    for (Fiber& fiber : fibers) {
      fiber.run([&] {
        fiber.context.emplace(Context::make());
        fiber.outer.emplace("outer");
      });
    }
    // Resumed on another thread, in another order, so that their memory is that of the other thread.
    std::thread([&] {
      for (std::size_t i = fibers.size(); i-- > 0;) {
        fibers[i].run([&] {
          ASSERT_EQ(Context::current().span_id(), id_of(*fibers[i].outer));
          fibers[i].outer.reset();
          fibers[i].context.reset();
        });
        ASSERT_TRUE(fibers[i].scopes.empty());
      }
    }).join();
  }
  EXPECT_EQ(dropped.times(), 0U);
}

TEST(Fibers, InsideScopesOfTheThreadAreInsideThem) {
  const SpanRecorder recorder("inner");
  Fiber fiber;
  fiber.run([&] { fiber.outer.emplace("outer"); });
  const Span of_the_thread{"thread"};
  nopspan::resume_scopes(std::move(fiber.scopes));
  EXPECT_EQ(Context::current().span_id(), id_of(*fiber.outer));
  fiber.outer.reset();
  EXPECT_EQ(Context::current().span_id(), id_of(of_the_thread));
}

TEST(Fibers, MayHaveASpanThatEndsWhileTheyAreSuspended) {
  const SpanRecorder recorder("outer");
  Fiber fiber;
  fiber.run([&] { fiber.outer.emplace("outer"); });
  fiber.outer.reset();
  EXPECT_EQ(recorder.events("outer.stop").size(), 1U);
  fiber.run([] { EXPECT_TRUE(Context::current().empty()); });
  EXPECT_TRUE(fiber.scopes.empty());
}

}  // namespace
