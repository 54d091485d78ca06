// SPDX-License-Identifier: Apache-2.0
// Signal handlers that make spans, while the threads that they interrupt allocate and free memory.
#include "every_call.h"
#include "fault.h"
#include "raised_gate.h"
#include "sanitizers.h"

#include <nopspan/span.h>

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>

#include <iterator>
#include <thread>

namespace {

using nopspan::Context;
using nopspan::Span;

constexpr unsigned kSignals = kThreadSanitizer ? 4'000 : 20'000;
std::atomic<unsigned> signals{0};
thread_local unsigned signals_here = 0;
thread_local timer_t timer_here = nullptr;

// The time from the end of a signal handler to the next signal.
void arm_timer() {
  const itimerspec soon{{0, 0}, {0, kThreadSanitizer || kAddressSanitizer ? 200'000 : 20'000}};
  timer_settime(timer_here, 0, &soon, nullptr);
}

void on_signal(int) {
  const unsigned number = signals.fetch_add(1, std::memory_order_relaxed);
  {
    const Span span{"signal"};
    every_call[number % std::size(every_call)].make(number % 100'000);
  }
  ++signals_here;
  const int saved = errno;
  arm_timer();  // fails if the timer was deleted while this signal was pending
  errno = saved;
}

// Interrupts the calling thread again and again while it exists.
class Interrupted {
 public:
  Interrupted() {
    sigevent event{};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = SIGUSR1;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer_here), 0);
    arm_timer();
  }
  ~Interrupted() { timer_delete(timer_here); }
  Interrupted(const Interrupted&) = delete;
  Interrupted& operator=(const Interrupted&) = delete;
};

void allocate_and_free() {
  void* blocks[8];
  std::size_t bytes = 1000;
  for (void*& block : blocks) block = std::malloc(bytes += 130);
  for (void* block : blocks) std::free(block);
}

class SignalFaults : public ::testing::Test {
 protected:
  SignalFaults() {
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    EXPECT_EQ(sigaction(SIGUSR1, &action, nullptr), 0);
  }

  // Threads make spans, allocate and free, until signals have come often enough.
  static void storm() {
    const Counted dropped(&nopspan::Stats::spans_dropped);
    std::atomic<bool> stop{false};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        const Interrupted interrupted;
        while (!stop) {
          const Span outer{"work"};
          const Span inner{"work"};
          allocate_and_free();
        }
      });
    }
    for (int round = is_long ? 60 : 1; round > 0; --round) {
      const unsigned enough = signals + kSignals;
      watch("signals that make spans", [&] { return signals >= enough; });
    }
    stop = true;
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(dropped.times(), 0U);
  }
};

TEST_F(SignalFaults, MaySpanWhileTheThreadAllocates) {
  const CountingHandler handler({"work", "signal"}, "work.event");
  storm();
  EXPECT_GE(handler.starts, kSignals);
  EXPECT_EQ(handler.starts, handler.ends);
}

TEST_F(SignalFaults, MaySpanWhileATracerIsAttached) {
  const RaisedGate tracer(RaisedGate::batch);
  storm();
}

TEST_F(SignalFaults, MayMakeTheFirstSpanOfAThread) {
  const CountingHandler handler({"signal"});
  for (int i = is_long ? 20'000 : 500; i > 0; --i) {
    std::atomic<bool> done{false};
    std::thread thread([&] {
      const Interrupted interrupted;
      while (signals_here < 3) allocate_and_free();
      done = true;
    });
    watch("the first spans of a thread", [&] { return done.load(); });
    thread.join();
  }
  EXPECT_EQ(handler.starts, handler.ends);
  EXPECT_GE(handler.starts, 500U);
}

}  // namespace
