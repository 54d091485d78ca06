// SPDX-License-Identifier: Apache-2.0
// The processes that are not read for a while, because a read of them blocked, or because they hide their threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

struct LeftAlone {
  using Clock = std::chrono::steady_clock;

  std::uint32_t pid = 0;          // 0 for files that are found by a path
  std::uint64_t start_ticks = 0;  // for files, a hash of their folder
  std::uint32_t user = 0;         // kNoUser for files
  std::string comm;
  std::string why;
  std::uint64_t times = 0;  // reads that were ended or found nothing
  Clock::time_point until;  // it is not read until then
};

// Whether another read of the user's processes may be tried, while reads of the processes of `blocked` (one user for
// each) still block. A user may have 8 of them. If all have 32, only users who have none may be read, up to 256. From
// uid 65536 on, 65,536 users count as one here, because a user may have so many subordinate ones (/etc/subuid).
// kNoUser means reads of paths, of which 32 may block.
bool may_block(const std::vector<std::uint32_t>& blocked, std::uint32_t user);

// A process is left alone for 1 s after its first read that blocked, then for 2 s, 4 s and so on up to 60 s. If more
// than eight reads of a user's processes blocked within a minute, all processes of that user are left alone in the same
// way. Memory is bounded.
class LeftAloneList {
 public:
  using Clock = LeftAlone::Clock;

  // Records that a read of the process was ended. Sets `times` and `until`.
  void add(LeftAlone process, Clock::time_point now);
  // Leaves the process alone for at least another second.
  void prolong(std::uint32_t pid, std::uint64_t start_ticks, Clock::time_point now);
  // `start_ticks` 0 means that only the pid is known.
  [[nodiscard]] bool has(std::uint32_t pid, std::uint64_t start_ticks, Clock::time_point now) const;
  [[nodiscard]] bool has_users(Clock::time_point now) const { return now < users_until_; }
  [[nodiscard]] bool has_user(std::uint32_t user, Clock::time_point now) const;
  // All processes that were ever added, also if they are read again or are gone. At most 1024.
  [[nodiscard]] const std::vector<LeftAlone>& all() const { return all_; }

 private:
  struct User {
    std::uint64_t times = 0;
    Clock::time_point last, until;
  };

  std::vector<LeftAlone> all_;
  std::unordered_map<std::uint32_t, User> users_;
  Clock::time_point users_until_;  // until then at least one user is left alone
};

}  // namespace nopspan::collector
