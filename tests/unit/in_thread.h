// SPDX-License-Identifier: Apache-2.0
// POSIX threads, because std::thread supports neither pthread_exit() nor cancellation.
#pragma once

#include <gtest/gtest.h>

#include <pthread.h>

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
