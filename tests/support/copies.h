// SPDX-License-Identifier: Apache-2.0
// Copies of this process: what restored snapshots and checkpoints are.
#pragma once

#include "in_child.h"

#include <gtest/gtest.h>

#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

using Numbers = std::vector<std::uint64_t>;

inline constexpr int kCopies = 100;

// Runs work(copy, numbers) in 100 copies of this process, which continue at once. Returns the numbers that they add.
//
// A copy has the memory of this process, all of it. fork() would call the library's handlers, and the kernel would
// clear `page`, by which the library detects a child. So this is clone(), and the page is restored.
template <class Work>
Numbers from_copies(void* page, const Work& work) {
  constexpr std::size_t kMost = 4096;  // what write() writes to a pipe at once
  unsigned char image[256];
  std::memcpy(image, page, sizeof(image));
  int start[2], results[2];
  EXPECT_EQ(pipe(start), 0);
  EXPECT_EQ(pipe(results), 0);
  std::vector<pid_t> copies;
  for (int i = 0; i < kCopies; ++i) {
    const auto pid = static_cast<pid_t>(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
    if (pid != 0) {
      copies.push_back(pid);
      continue;
    }
    alarm(120);
    std::memcpy(page, image, sizeof(image));
    close(start[1]);
    char none;
    const bool has_started = read(start[0], &none, 1) == 0;  // when all copies exist
    Numbers made;
    work(i, made);
    for (std::size_t at = 0; at < made.size(); at += kMost / 8) {
      const std::size_t bytes = std::min(made.size() - at, kMost / 8) * 8;
      if (write(results[1], &made[at], bytes) != static_cast<ssize_t>(bytes)) _exit(1);
    }
    _exit(has_started && !::testing::Test::HasFailure() ? 0 : 1);
  }
  for (const int end : {start[0], start[1], results[1]}) close(end);
  Numbers all;
  std::uint64_t number = 0;
  while (read(results[0], &number, sizeof(number)) == sizeof(number)) all.push_back(number);
  close(results[0]);
  for (const pid_t pid : copies) EXPECT_EQ(wait_for(pid), "");
  return all;
}

inline void expect_no_equals(const Numbers& numbers, std::size_t of_each) {
  EXPECT_EQ(numbers.size(), kCopies * of_each);
  EXPECT_EQ(std::set<std::uint64_t>(numbers.begin(), numbers.end()).size(), numbers.size());
}
