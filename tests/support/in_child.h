// SPDX-License-Identifier: Apache-2.0
// Runs a test in a process of its own: one that forks, that may crash the program, or that fills a table for good. Also
// waits for conditions.
#pragma once

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

// Describes how a child ended, or "" if it exited with status 0.
inline std::string wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return "waitpid failed";
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
}

// Forks and runs `work` in the child. Returns a description of what went wrong there, or "": a failed expectation
// (which is also printed), a signal or a hang.
template <class Work>
std::string in_child(Work work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    alarm(120);  // kills a child that hangs
    work();
    std::fflush(nullptr);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  return wait_for(child);
}

template <class Work>
void expect_in_child(Work work) {
  EXPECT_EQ(in_child(work), "");
}

// Waits for a condition. The deadline only keeps a broken build from hanging. Nothing depends on its length.
template <class Condition>
bool wait_until(Condition condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(90);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

// Where a thread waits until another one lets it go on.
class Halt {
 public:
  void here() {
    inside_ = true;
    EXPECT_TRUE(wait_until([this] { return go_on_.load(); }));
  }
  [[nodiscard]] bool is_reached() const {
    return wait_until([this] { return inside_.load(); });
  }
  void release() { go_on_ = true; }

 private:
  std::atomic<bool> inside_{false};
  std::atomic<bool> go_on_{false};
};
