// SPDX-License-Identifier: Apache-2.0
// What the library does with malloc: nothing on the path of a span, so that spans may be made inside malloc, and
// without memory.
#include "allocator.h"
#include "fault.h"

#include <nopspan/span.h>

#include <sys/resource.h>

#include <atomic>
#include <thread>
#include <vector>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;

// The address space of this process cannot grow while an instance exists.
class NoMoreMemory {
 public:
  NoMoreMemory() {
    EXPECT_EQ(getrlimit(RLIMIT_AS, &before_), 0);
    const rlimit none{0, before_.rlim_max};
    EXPECT_EQ(setrlimit(RLIMIT_AS, &none), 0);
  }
  ~NoMoreMemory() { EXPECT_EQ(setrlimit(RLIMIT_AS, &before_), 0); }
  NoMoreMemory(const NoMoreMemory&) = delete;
  NoMoreMemory& operator=(const NoMoreMemory&) = delete;

 private:
  rlimit before_{};
};

bool fail_all(std::size_t bytes) { return bytes == 0; }

void expect_that_spans_are_counted_without_memory(bool is_warm) {
  constexpr std::uint64_t kSpans = 50'000;
  const CountingHandler handler({"work"});
  const Counted dropped(&nopspan::Stats::spans_dropped);
  std::vector<AsyncSpan> spans(kSpans);
  const auto begin_and_end = [&] {
    for (AsyncSpan& span : spans) span = AsyncSpan{"work", Context()};
    for (AsyncSpan& span : spans) span.end();
  };
  std::atomic<int> step{0};
  std::thread thread([&] {
    if (is_warm) AsyncSpan{"warm"}.end();
    step = 1;
    while (step != 2) std::this_thread::yield();
    begin_and_end();
    step = 3;
    while (step != 4) std::this_thread::yield();
    begin_and_end();
  });
  watch("a thread that starts", [&] { return step == 1; });
  {
    const AllocatorHook hook(fail_all);
    const NoMoreMemory no_more_memory;
    step = 2;
    watch("spans without memory", [&] { return step == 3; });
  }
  EXPECT_GT(dropped.times(), 0U);
  EXPECT_EQ(handler.starts + dropped.times(), kSpans);
  EXPECT_EQ(handler.ends, handler.starts);
  const std::uint64_t emitted = handler.starts;
  step = 4;
  thread.join();
  EXPECT_EQ(handler.starts, emitted + kSpans);
  EXPECT_EQ(handler.ends, handler.starts);
}

TEST(MallocFaults, SpansOfANewThreadAreCountedIfTheKernelHasNoMemory) {
  expect_that_spans_are_counted_without_memory(false);
}

TEST(MallocFaults, SpansOfAnOldThreadAreCountedIfTheKernelHasNoMemory) {
  expect_that_spans_are_counted_without_memory(true);
}

}  // namespace
