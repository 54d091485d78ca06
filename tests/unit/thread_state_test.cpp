// SPDX-License-Identifier: Apache-2.0
// The state that the library keeps for each thread, and the mark of the process.
#include "in_child.h"
#include "recorded.h"
#include "sanitizers.h"

#include "thread/thread_state.h"

#include <nopspan/span.h>
#include <nopspan/stats.h>

#include <errno.h>
#include <sys/resource.h>

#include <cstdint>
#include <thread>

namespace {

int states() {
  int count = 0;
  nopspan::detail::for_each_thread([&](const nopspan::detail::ThreadState&) { ++count; });
  return count;
}

// This program is static, so the constructors of its objects run before those of the library.
struct EarlyThreads {
  EarlyThreads() {
    nopspan::keep_open_spans(true);
    const int before = states();
    for (int i = 0; i < 3; ++i) std::thread([&] { began = began && Span{"work"}; }).join();
    left = states() - before;
    nopspan::keep_open_spans(false);
  }
  bool began = true;
  int left = 0;
} early_threads;

TEST(ThreadState, OfAThreadInAStaticConstructorIsReleasedAtItsEnd) {
  EXPECT_TRUE(early_threads.began);
  EXPECT_EQ(early_threads.left, 0);
}

TEST(ProcessMark, IsKeptAndKeepsErrnoIfTheKernelRefusesItsPage) {
  if (kAddressSanitizer || kThreadSanitizer) GTEST_SKIP() << "a sanitizer needs address space";
  const SpanRecorder recorder("work");
  { const Span span{"work"}; }
  expect_in_child([] {
    nopspan::detail::unmap_process_mark();
    rlimit limit{};
    getrlimit(RLIMIT_AS, &limit);
    const rlimit none{0, limit.rlim_max};
    setrlimit(RLIMIT_AS, &none);
    errno = ENOENT;
    { const Span span{"work"}; }
    EXPECT_EQ(errno, ENOENT);
    const std::uint64_t mark = nopspan::detail::process_mark();
    EXPECT_EQ(errno, ENOENT);
    setrlimit(RLIMIT_AS, &limit);
    EXPECT_EQ(nopspan::detail::process_mark(), mark);
  });
}

}  // namespace
