// SPDX-License-Identifier: Apache-2.0
// Many threads at once, and spans that outlive their threads.
#include "fault.h"
#include "in_thread.h"
#include "sanitizers.h"

#include <nopspan/span.h>

#include <pthread.h>
#include <semaphore.h>

#include <climits>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

namespace {

using nopspan::Span;

constexpr int kThreads = kThreadSanitizer ? 200 : 2000;  // ThreadSanitizer uses 1 MiB for each thread
sem_t began;
sem_t may_end;

// Runs threads that exist at the same time, each with a span.
void run_together() {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 256 * 1024);
  std::vector<pthread_t> threads(kThreads);
  for (pthread_t& thread : threads) {
    const auto run = [](void*) -> void* {
      {
        const Span span{"work"};
        sem_post(&began);
        while (sem_wait(&may_end) != 0) continue;
      }
      return nullptr;
    };
    ASSERT_EQ(pthread_create(&thread, &attributes, run, nullptr), 0);
  }
  for (int i = 0; i < kThreads; ++i) {
    while (sem_wait(&began) != 0) continue;
  }
  for (int i = 0; i < kThreads; ++i) sem_post(&may_end);
  for (const pthread_t thread : threads) pthread_join(thread, nullptr);
  pthread_attr_destroy(&attributes);
}

// The library keeps the first 2 MiB of thread states and of span states. 2,000 threads need 8 MB.
constexpr std::size_t kKept = std::size_t{5} << 20U;

TEST(ThreadFaults, ManyThreadsGiveTheirMemoryBack) {
  sem_init(&began, 0, 0);
  sem_init(&may_end, 0, 0);
  run_together();  // while the gate is down: the memory that threads keep without nopspan
  const std::uint64_t before = resident_bytes();
  const CountingHandler handler({"work"});
  run_together();
  EXPECT_EQ(handler.starts, kThreads);
  if (!kAddressSanitizer && !kThreadSanitizer) {
    EXPECT_LT(resident_bytes(), before + kKept);
  }

  in_threads(8, [](int) {
    for (int n = 0; n < 1000; ++n) nopspan::AsyncSpan{"work"}.end();
  });
  EXPECT_EQ(handler.starts, kThreads + 8U * 1000);
  EXPECT_EQ(handler.ends, handler.starts);
}

// Threads begin spans and end. Other threads end the spans, some before and some after the threads that began them.
TEST(ThreadFaults, SpansMayEndWhileTheThreadsThatBeganThemEnd) {
  constexpr int kMakers = 4;
  const int lives = is_long ? 20'000 : 500;  // threads that each maker starts, one after the other
  constexpr int kSpans = 16;                 // spans of each of them
  const CountingHandler handler({"work"});
  const Counted wrong_thread(&nopspan::Stats::wrong_thread);
  const Counted left(&nopspan::Stats::scopes_left);
  const std::uint64_t memory = resident_bytes();
  std::mutex mutex;
  std::deque<std::unique_ptr<Span>> open;
  std::atomic<int> makers{kMakers};
  std::vector<std::thread> threads;
  for (int i = 0; i < kMakers; ++i) {
    threads.emplace_back([&] {
      for (int life = 0; life < lives; ++life) {
        std::thread([&] {
          for (int n = 0; n < kSpans; ++n) {
            auto span = std::make_unique<Span>("work");
            const std::lock_guard<std::mutex> lock(mutex);
            open.push_back(std::move(span));
          }
        }).join();
      }
      --makers;
    });
    threads.emplace_back([&] {
      while (true) {
        const bool last = makers == 0;
        std::unique_ptr<Span> span;
        {
          const std::lock_guard<std::mutex> lock(mutex);
          if (!open.empty()) {
            span = std::move(open.front());
            open.pop_front();
          } else if (last) {
            return;
          }
        }
        if (span == nullptr) std::this_thread::yield();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const auto spans = static_cast<std::uint64_t>(kMakers) * kSpans * static_cast<std::uint64_t>(lives);
  EXPECT_EQ(handler.starts, spans);
  EXPECT_EQ(handler.ends, spans);
  // A span that ends just when its thread does may be in both counts.
  EXPECT_GE(wrong_thread.times() + left.times(), spans);
  // AddressSanitizer's own check at the end of the program finds a leak of a single span.
  if (!kAddressSanitizer && !kThreadSanitizer) {
    EXPECT_LT(resident_bytes(), memory + spans * 256);
  }
}

// The destructor of this key runs after that of the library's key, in each round of destructors at the end of a thread.
pthread_key_t last_key;
void span_again(void* again) {
  { const Span span{"work"}; }
  pthread_setspecific(last_key, again);
}

TEST(ThreadFaults, SpansAfterTheLastDestructorsKeepNoMemory) {
  ASSERT_EQ(pthread_key_create(&last_key, span_again), 0);
  const CountingHandler handler({"work"});
  const Counted dropped(&nopspan::Stats::spans_dropped), over_limit(&nopspan::Stats::spans_over_limit);
  constexpr std::uint64_t kEnding = 1000;
  for (std::uint64_t i = 0; i < kEnding; ++i) std::thread([] { span_again(&last_key); }).join();
  constexpr std::uint64_t kDropped = 2;  // in rounds 3 and 4
  EXPECT_EQ(dropped.times(), kEnding * kDropped);
  EXPECT_EQ(over_limit.times(), kEnding * kDropped);
  EXPECT_EQ(handler.starts, kEnding * (1 + PTHREAD_DESTRUCTOR_ITERATIONS - kDropped));
  EXPECT_EQ(handler.ends, handler.starts);
  pthread_key_delete(last_key);
}

}  // namespace
