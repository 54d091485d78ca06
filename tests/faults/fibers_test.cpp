// SPDX-License-Identifier: Apache-2.0
// Fibers that a scheduler resumes on another thread. When the fiber has ended, its stack is unmapped.
#include "fault.h"

#include <nopspan/context.h>
#include <nopspan/span.h>

#include <sys/mman.h>
#include <ucontext.h>

#include <thread>

namespace {

constexpr std::size_t kStackBytes = 256 * 1024;

ucontext_t scheduler;
ucontext_t fiber;

void suspend() { swapcontext(&fiber, &scheduler); }
void resume() { swapcontext(&scheduler, &fiber); }

// Runs `work`, which suspends once, on a fiber that this thread starts and another thread resumes.
void migrate(void (*work)()) {
  void* stack = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(stack, MAP_FAILED);
  ASSERT_EQ(getcontext(&fiber), 0);
  fiber.uc_stack.ss_sp = stack;
  fiber.uc_stack.ss_size = kStackBytes;
  makecontext(&fiber, work, 0);
  resume();
  std::thread(resume).join();
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

}  // namespace
