// SPDX-License-Identifier: Apache-2.0
#include "host/left_alone.h"

#include "base/time_budget.h"
#include "host/process_facts.h"

#include <algorithm>
#include <cstddef>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMaximumLeftAlone = 1024;
constexpr std::uint64_t kMaximumTimesOfAUser = 8;
constexpr auto kMinute = std::chrono::seconds(60);
// A process that could be read for this long is treated as one that never blocked.
constexpr auto kForgiven = std::chrono::minutes(10);

// The limits of reads that still block.
constexpr std::ptrdiff_t kMostBlockedOfAUser = 8;
constexpr std::ptrdiff_t kMostBlockedPaths = 32;
constexpr std::size_t kManyBlocked = 32;
constexpr std::size_t kMostBlocked = 256;

// 1, 2, 4 … 60 s.
std::chrono::seconds pause_after(std::uint64_t times) {
  return std::min<std::chrono::seconds>(kMinute, std::chrono::seconds(1U << std::min<std::uint64_t>(times - 1, 6)));
}

}  // namespace

bool may_block(const std::vector<std::uint32_t>& blocked, std::uint32_t user) {
  if (blocked.size() >= kMostBlocked) return false;
  const auto own = std::count(blocked.begin(), blocked.end(), user);
  if (user == kNoUser) return own < kMostBlockedPaths;
  if (own >= kMostBlockedOfAUser) return false;
  return blocked.size() < kManyBlocked || std::none_of(blocked.begin(), blocked.end(), [&](std::uint32_t other) {
           return other != kNoUser && user_range(other) == user_range(user);
         });
}

void LeftAloneList::add(LeftAlone process, Clock::time_point now) {
  auto found = std::find_if(all_.begin(), all_.end(), [&](const LeftAlone& other) {
    return other.pid == process.pid && other.start_ticks == process.start_ticks;
  });
  if (found == all_.end()) {
    if (all_.size() == kMaximumLeftAlone)
      all_.erase(std::min_element(all_.begin(), all_.end(),
                                  [](const LeftAlone& a, const LeftAlone& b) { return a.until < b.until; }));
    found = all_.insert(all_.end(), process);
  }
  process.times = now - found->until > kForgiven ? 1 : found->times + 1;
  process.until = now + pause_after(process.times);
  *found = process;
  if (process.pid == 0) return;
  if (users_.size() >= kMaximumLeftAlone)
    std::erase_if(users_, [&](const auto& entry) { return now - entry.second.last > kMinute; });
  if (users_.size() >= 2 * kMaximumLeftAlone) users_.clear();
  User& user = users_[user_range(process.user)];
  user.times = now - std::max(user.last, user.until) > kMinute ? 1 : user.times + 1;
  user.last = now;
  if (user.times <= kMaximumTimesOfAUser) return;
  user.until = now + pause_after(user.times - kMaximumTimesOfAUser);
  users_until_ = std::max(users_until_, user.until);
}

void LeftAloneList::prolong(std::uint32_t pid, std::uint64_t start_ticks, Clock::time_point now) {
  for (LeftAlone& process : all_)
    if (process.pid == pid && process.start_ticks == start_ticks)
      process.until = std::max(process.until, now + std::chrono::seconds(1));
}

bool LeftAloneList::has(std::uint32_t pid, std::uint64_t start_ticks, Clock::time_point now) const {
  return std::any_of(all_.begin(), all_.end(), [&](const LeftAlone& process) {
    return process.pid == pid && now < process.until &&
           (start_ticks == 0 || process.start_ticks == 0 || start_ticks == process.start_ticks);
  });
}

bool LeftAloneList::has_user(std::uint32_t user, Clock::time_point now) const {
  const auto found = users_.find(user_range(user));
  return found != users_.end() && now < found->second.until;
}

}  // namespace nopspan::collector
