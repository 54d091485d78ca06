// SPDX-License-Identifier: Apache-2.0
// Divides the time of a thread among users, so that the processes of one user cannot take all of it.
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <map>

namespace nopspan::collector {

// Users that count as one when something is shared among users.

// From uid 65536 on, 65,536 users count as one, because a user may have so many subordinate ones (/etc/subuid).
// Returns the first of them.
constexpr std::uint32_t user_range(std::uint32_t user) { return user < 65536 ? user : user >> 16U << 16U; }

// Each user (user_range()) has `burst_ns` to begin with, and regains one part in `parts` of the time that passes. Times
// are in ns of any clock that does not go back. Not thread-safe.
class TimeBudget {
 public:
  TimeBudget(std::uint64_t burst_ns, std::uint64_t parts)
      : burst_ns_(static_cast<std::int64_t>(burst_ns)), parts_(parts) {}

  [[nodiscard]] bool has_any(uid_t user, std::uint64_t now_ns) { return left(user, now_ns) > 0; }
  // May spend more than the user has. Then the user has none for longer.
  void spend(uid_t user, std::uint64_t spent_ns, std::uint64_t now_ns) {
    left(user, now_ns);
    users_[user_range(user)].left_ns -= static_cast<std::int64_t>(spent_ns);
  }

 private:
  struct User {
    std::int64_t left_ns;
    std::uint64_t since_ns;
  };

  std::int64_t left(uid_t one, std::uint64_t now_ns) {
    const uid_t user = user_range(one);
    if (users_.size() >= kMostUsers && !users_.contains(user)) users_.clear();
    User& known = users_.try_emplace(user, User{burst_ns_, now_ns}).first->second;
    known.left_ns = std::min<std::int64_t>(
        burst_ns_, known.left_ns + static_cast<std::int64_t>((now_ns - known.since_ns) / parts_));
    known.since_ns = now_ns;
    return known.left_ns;
  }

  static constexpr std::size_t kMostUsers = 4096;

  std::int64_t burst_ns_;
  std::uint64_t parts_;
  std::map<uid_t, User> users_;
};

}  // namespace nopspan::collector
