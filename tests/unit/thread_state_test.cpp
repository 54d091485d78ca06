// SPDX-License-Identifier: Apache-2.0
// The state that the library keeps for each thread, and the mark of the process.
#include "in_child.h"
#include "raised_gate.h"
#include "recorded.h"
#include "sanitizers.h"

#include "state/catalogue.h"
#include "state/intern.h"
#include "thread/thread_state.h"

#include <nopspan/execute.h>

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>

#include <atomic>
#include <cstring>
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

// ---- Spans in a signal handler that interrupts the library.

using nopspan::detail::LibraryGuard;

TEST(Reentrancy, EmitsNothingInsideTheLibraryAndCountsIt) {
  const SpanRecorder recorder("work");
  const Counted reentrant(&nopspan::Stats::reentrant);
  {
    const LibraryGuard library;  // as if a signal handler ran inside the library
    ASSERT_TRUE(library);
    { const Span span{"work"}; }
    AsyncSpan{"work"}.end();
    nopspan::execute("a.b");
    nopspan::complete("work", Context(), 1, 1);
  }
  EXPECT_EQ(recorder.size(), 0U);
  EXPECT_EQ(reentrant.times(), 4U);
  { const Span span{"work"}; }
  EXPECT_EQ(recorder.size(), 2U);
}

TEST(Reentrancy, OfASpanThatEndsInsideTheLibraryIsNoCrash) {
  const SpanRecorder recorder("work");
  const Counted reentrant(&nopspan::Stats::reentrant);
  AsyncSpan span{"work"};
  {
    const LibraryGuard library;
    span.end();
  }
  EXPECT_GE(reentrant.times(), 1U);
  EXPECT_EQ(recorder.events("work.stop").size(), 0U);
}

TEST(Reentrancy, LogsNothingWhileTheLogMayBeLocked) {
  std::vector<std::string> lines;
  nopspan::set_log_sink([&](nopspan::LogLevel, std::string_view line) {
    lines.emplace_back(line);
    EXPECT_FALSE(nopspan::detail::locals.state->busy);  // the sink is application code
  });
  const Counted unknown(&nopspan::Stats::names_unknown);
  char text[nopspan::kMaxNameBytes + 1];
  const nopspan::detail::Interned name = nopspan::detail::copy_name("llm.unheard-of", text);
  {
    const LibraryGuard library;
    nopspan::detail::check_catalogue(name);
    EXPECT_EQ(lines.size(), 0U);
  }
  nopspan::detail::check_catalogue(name);
  nopspan::set_log_sink({});
  EXPECT_EQ(lines.size(), 1U);
  EXPECT_EQ(unknown.times(), 2U);
}

TEST(Reentrancy, LetsASignalHandlerEmitWhereverItInterrupts) {
  static std::atomic<int> signals;
  signals = 0;
  const RaisedGate tracer(RaisedGate::spans);
  struct sigaction action;
  struct sigaction before;
  std::memset(&action, 0, sizeof(action));
  action.sa_handler = [](int) {
    ++signals;
    const Span span{"signal"};
  };
  {  // allocates memory for the handler's span too, because a signal handler must not allocate
    const Span outer{"outer"};
    const Span inner{"inner"};
  }
  ASSERT_EQ(sigaction(SIGPROF, &action, &before), 0);
  const itimerval often{{0, 200}, {0, 200}};
  ASSERT_EQ(setitimer(ITIMER_PROF, &often, nullptr), 0);
  for (int i = 0; signals < 100 && i < 100'000'000; ++i) {
    Span span{"work"};
    span.set("key", "value");  // makes the library allocate, so that signals also interrupt that
    const Context context = Context::current();
    ASSERT_EQ(context.span_id(), span.context().span_id());
  }
  const itimerval never{};
  ASSERT_EQ(setitimer(ITIMER_PROF, &never, nullptr), 0);
  ASSERT_EQ(sigaction(SIGPROF, &before, nullptr), 0);
  EXPECT_GE(signals, 100);
  EXPECT_TRUE(Context::current().empty());
}

}  // namespace
