// SPDX-License-Identifier: Apache-2.0
// Tests in a process of their own: those that fork, that could end the program, or that fill what cannot be emptied.
#pragma once

#include <gtest/gtest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>

// Why a child ended otherwise than with status 0; empty if it did not.
inline std::string wait_for(pid_t child) {
  int status = 0;
  if (waitpid(child, &status, 0) != child) return "waitpid failed";
  if (WIFSIGNALED(status)) return "killed by signal " + std::to_string(WTERMSIG(status));
  return WEXITSTATUS(status) == 0 ? "" : "exit status " + std::to_string(WEXITSTATUS(status));
}

// Forks, runs `work` in the child, and gives in the child's stead what went wrong: an expectation that failed
// (printed), a signal, a hang.
template <class Work>
std::string in_child(Work work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child < 0) return "fork failed";
  if (child == 0) {
    alarm(120);  // a child that hangs is killed
    work();
    std::fflush(nullptr);
    _exit(::testing::Test::HasFailure() ? 1 : 0);
  }
  return wait_for(child);
}
