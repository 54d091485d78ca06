// SPDX-License-Identifier: Apache-2.0
// Signals at the instructions of threads that make their first spans, allocate, and end. The processor traps after each
// instruction. Each thread gets its first signal at another instruction before its first span has begun.
#include "fault.h"

#include <nopspan/span.h>
#include <nopspan/stream_meter.h>

#include <pthread.h>
#include <signal.h>
#include <x86intrin.h>

#include <string>
#include <thread>

namespace {

using nopspan::AsyncSpan;
using nopspan::Context;
using nopspan::Span;

constexpr unsigned long kTrapFlag = 0x100;
constexpr unsigned long kEach = 31;  // after the first signal to a thread, each 31st instruction has one
volatile unsigned long step = 0;
volatile unsigned long first_signal = 0;  // 0: no signals
volatile unsigned long first_span = 0;    // the step at which the thread's first span has begun
volatile unsigned long signals = 0;

void on_step(int) {
  step = step + 1;
  if (first_signal == 0 || step < first_signal || (step - first_signal) % kEach != 0) return;
  signals = signals + 1;
  const Span span{"signal"};
}

void work() {
  static const std::string large(800, 'x');  // does not fit into the span's own memory
  Span outer{"work"};
  first_span = step;
  outer.set("large", large);
  std::free(std::malloc(5000));
  nopspan::StreamMeter meter{AsyncSpan{"work", outer.context()}};
  meter.token();
  const Span inner{"work", [](nopspan::Fields& f) { f.label("key", "value").link(Context::make()); }};
}
constexpr unsigned kSpansOfWork = 3;

// The destructor of this key runs after that of the library's key, so the traps include the library's. They must stop
// before the thread exits, because the C library then blocks signals.
pthread_key_t last_key;
void stop_traps(void*) { __writeeflags(__readeflags() & ~kTrapFlag); }

void run_with_traps() {
  pthread_setspecific(last_key, &last_key);
  __writeeflags(__readeflags() | kTrapFlag);
  work();
}

void run() {
  step = 0;
  std::atomic<bool> done{false};
  std::thread thread([&] {
    run_with_traps();
    done = true;
  });
  watch("a thread that is interrupted", [&] { return done.load(); });
  thread.join();
}

TEST(StepFaults, ASignalMayInterruptEachInstruction) {
  struct sigaction action {};
  action.sa_handler = on_step;
  ASSERT_EQ(sigaction(SIGTRAP, &action, nullptr), 0);
  ASSERT_EQ(pthread_key_create(&last_key, stop_traps), 0);
  CountingHandler handler({"work", "signal"});
  run();  // also runs the dynamic linker
  run();
  handler.starts = handler.ends = 0;

  const Counted dropped(&nopspan::Stats::spans_dropped);
  const Counted reentrant(&nopspan::Stats::reentrant);
  const Counted recursion(&nopspan::Stats::recursion_dropped);
  const unsigned runs = is_long ? 300 : 6;
  const unsigned long until = first_span;
  for (unsigned i = 0; i < runs; ++i) {
    first_signal = 1 + until * i / runs;
    run();
  }
  EXPECT_GT(signals, 100U * runs);
  EXPECT_EQ(handler.starts, handler.ends);
  EXPECT_EQ(dropped.times(), 0U);
  EXPECT_GE(handler.starts, kSpansOfWork * runs);
  EXPECT_GE(handler.starts + reentrant.times() + recursion.times(), kSpansOfWork * runs + signals);
}

}  // namespace
