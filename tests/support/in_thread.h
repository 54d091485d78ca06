// SPDX-License-Identifier: Apache-2.0
// Work on other threads. Some are POSIX threads, because std::thread supports neither pthread_exit() nor cancellation.
#pragma once

#include <gtest/gtest.h>

#include <pthread.h>

#include <thread>
#include <vector>

template <class Work>
pthread_t start_thread(Work& work) {
  pthread_t thread;
  const auto run = [](void* argument) -> void* {
    (*static_cast<Work*>(argument))();
    return nullptr;
  };
  EXPECT_EQ(pthread_create(&thread, nullptr, run, &work), 0);
  return thread;
}

// The thread's exit value, or null if `work` returned.
template <class Work>
void* in_thread(Work work) {
  void* result = nullptr;
  EXPECT_EQ(pthread_join(start_thread(work), &result), 0);
  return result;
}

// Runs `work(number)` on so many threads at the same time.
template <class Work>
void in_threads(int count, Work work) {
  std::vector<std::thread> threads;
  for (int number = 0; number < count; ++number) threads.emplace_back([&work, number] { work(number); });
  for (std::thread& thread : threads) thread.join();
}
