// SPDX-License-Identifier: Apache-2.0
// Fibers that a scheduler resumes on another thread. When the fiber has ended, its stack is unmapped.
#include "fault.h"

#include <nopspan/context.h>
#include <nopspan/fiber.h>
#include <nopspan/span.h>

#if HAVE_BOOST_CONTEXT
#include <boost/context/fiber.hpp>
#endif

#include <sys/mman.h>
#include <ucontext.h>

#include <thread>
#include <utility>

#if HAVE_BOOST_CONTEXT
// The adapter of nopspan/fiber.h.
using boost::context::detail::fcontext_t;
using boost::context::detail::transfer_t;
extern "C" transfer_t __real_jump_fcontext(fcontext_t to, void* data);
extern "C" transfer_t __wrap_jump_fcontext(fcontext_t to, void* data) {
  const nopspan::FiberSwitch here;
  return __real_jump_fcontext(to, data);
}
#endif

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

ucontext_t scheduler;
ucontext_t fiber;

void suspend() { swapcontext(&fiber, &scheduler); }
void resume() { swapcontext(&scheduler, &fiber); }

// The adapter of nopspan/fiber.h.
void switch_fiber(ucontext_t* from, ucontext_t* to) {
  const nopspan::FiberSwitch here;
  swapcontext(from, to);
}

// Runs `work`, which suspends once, on a fiber that this thread starts and another thread resumes.
void migrate(void (*work)(), void (*resume_it)() = resume) {
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(stack, MAP_FAILED);
  ASSERT_EQ(getcontext(&fiber), 0);
  fiber.uc_stack.ss_sp = stack;
  fiber.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber, work, 0);
  resume_it();
  std::thread(resume_it).join();
  // No access instead of munmap(), so that the next mapping does not get this address.
  ASSERT_EQ(mprotect(stack, kStackBytes, PROT_NONE), 0);
}

void expect_a_migration(void (*work)()) {
  const CountingHandler handler({"work"});
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  migrate(work);
  EXPECT_EQ(wrong_thread.times(), 1U);
  EXPECT_TRUE(nopspan::Context::current().empty());
  { const nopspan::Span span{"work"}; }
  EXPECT_EQ(handler.last_parent, 0U);
  EXPECT_EQ(handler.starts, handler.ends);
}

TEST(FiberFaults, AContextScopeMayMigrate) {
  expect_a_migration([] {
    {
      const nopspan::ContextScope scope{nopspan::Context::make()};
      suspend();
    }
    suspend();
  });
}

TEST(FiberFaults, ASpanMayMigrate) {
  expect_a_migration([] {
    {
      const nopspan::Span span{"work"};
      suspend();
    }
    suspend();
  });
}

// The same with the adapter: the span stays current in its fiber, and nothing is counted.
TEST(FiberFaults, ASwitchKeepsTheScopesOfAFiber) {
  const CountingHandler handler({"work"});
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  const Counted left(&nopspan::Stats::scopes_left);
  const nopspan::Span of_the_thread{"work"};
  const auto work = [] {
    {
      const nopspan::Span span{"work"};
      const std::uint64_t id = span.context().span_id();
      switch_fiber(&fiber, &scheduler);
      EXPECT_EQ(nopspan::Context::current().span_id(), id);
    }
    EXPECT_TRUE(nopspan::Context::current().empty());
    switch_fiber(&fiber, &scheduler);
  };
  migrate(work, [] { switch_fiber(&scheduler, &fiber); });
  EXPECT_EQ(nopspan::Context::current().span_id(), of_the_thread.context().span_id());
  EXPECT_EQ(wrong_thread.times() + left.times(), 0U);
}

#if HAVE_BOOST_CONTEXT
using BoostFiber = boost::context::fiber;

TEST(FiberFaults, FibersOfBoostInterleaveMigrateAndUnwind) {
  const CountingHandler handler({"work", "inside"});
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  const Counted left(&nopspan::Stats::scopes_left);
  const nopspan::Span of_the_thread{"work"};
  const std::uint64_t id_of_the_thread = of_the_thread.context().span_id();
  int unwound = 0;
  const auto work = [&](BoostFiber&& caller) {
    struct Unwound {
      int& count;
      ~Unwound() { ++count; }
    };
    const Unwound at_end{unwound};
    const nopspan::Span span{"work"};
    const std::uint64_t id = span.context().span_id();
    EXPECT_EQ(handler.last_parent, 0U);
    while (true) {
      caller = std::move(caller).resume();
      EXPECT_EQ(nopspan::Context::current().span_id(), id);
      { const nopspan::Span inside{"inside"}; }
      EXPECT_EQ(handler.last_parent, id);
    }
    return std::move(caller);
  };
  {
    BoostFiber first{work};
    BoostFiber second{work};
    for (int i = 0; i < 3; ++i) {
      first = std::move(first).resume();
      std::thread([&] { second = std::move(second).resume(); }).join();
      EXPECT_EQ(nopspan::Context::current().span_id(), id_of_the_thread);
    }
  }  // they are destroyed while they are suspended
  EXPECT_EQ(unwound, 2);
  EXPECT_EQ(nopspan::Context::current().span_id(), id_of_the_thread);
  EXPECT_EQ(handler.ends + 1, handler.starts);
  EXPECT_EQ(wrong_thread.times() + left.times(), 0U);
}
#endif

}  // namespace
