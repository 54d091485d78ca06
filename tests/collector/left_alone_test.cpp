// SPDX-License-Identifier: Apache-2.0
#include "host/left_alone.h"

#include "base/time_budget.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <vector>

namespace nopspan::collector {
namespace {

using std::chrono::seconds;
using Clock = LeftAlone::Clock;

LeftAlone blocked_process(std::uint32_t pid, std::uint32_t user) {
  LeftAlone result;
  result.pid = pid;
  result.start_ticks = 100 + pid;
  result.user = user;
  return result;
}

TEST(LeftAloneList, DoublesThePauseUpToAMinute) {
  LeftAloneList list;
  Clock::time_point now{};
  for (const int pause : {1, 2, 4, 8, 16, 32, 60, 60}) {
    EXPECT_FALSE(list.has(7, 107, now));
    list.add(blocked_process(7, 1000), now);
    EXPECT_TRUE(list.has(7, 107, now + seconds(pause) - std::chrono::milliseconds(1)));
    EXPECT_FALSE(list.has(7, 107, now + seconds(pause)));
    now += seconds(pause);
  }
  ASSERT_EQ(list.all().size(), 1U);
  EXPECT_EQ(list.all()[0].times, 8U);
}

TEST(LeftAloneList, ForgivesAProcessThatIsReadableForTenMinutes) {
  LeftAloneList list;
  Clock::time_point now{};
  list.add(blocked_process(7, 1000), now);
  list.add(blocked_process(7, 1000), now + seconds(1));
  now += std::chrono::minutes(11);
  list.add(blocked_process(7, 1000), now);
  EXPECT_FALSE(list.has(7, 107, now + seconds(1)));
}

TEST(LeftAloneList, IsAboutAProcessAndNotAboutAPid) {
  LeftAloneList list;
  list.add(blocked_process(7, 1000), Clock::time_point());
  EXPECT_TRUE(list.has(7, 0, Clock::time_point()));
  EXPECT_FALSE(list.has(7, 108, Clock::time_point())) << "another process that has the pid now";
  EXPECT_FALSE(list.has(8, 0, Clock::time_point()));
}

TEST(LeftAloneList, HasAUserAfterManyOfItsProcesses) {
  LeftAloneList list;
  const Clock::time_point now{};
  for (std::uint32_t pid = 1; pid <= 8; ++pid) list.add(blocked_process(pid, 1000), now);
  EXPECT_FALSE(list.has_users(now));
  list.add(blocked_process(9, 1000), now);
  EXPECT_TRUE(list.has_users(now));
  EXPECT_TRUE(list.has_user(1000, now));
  EXPECT_FALSE(list.has_user(1001, now));
  EXPECT_FALSE(list.has_user(1000, now + seconds(1)));
  list.add(blocked_process(10, 1000), now + seconds(1));
  EXPECT_TRUE(list.has_user(1000, now + seconds(2)));
}

TEST(LeftAloneList, TakesSubordinateUsersForOne) {
  LeftAloneList list;
  const Clock::time_point now{};
  for (std::uint32_t pid = 1; pid <= 9; ++pid) list.add(blocked_process(pid, 200'000 + pid), now);
  EXPECT_TRUE(list.has_user(200'100, now));
  EXPECT_FALSE(list.has_user(300'000, now));
}

TEST(TimeBudget, IsThatOfAllSubordinateUsersTogether) {
  TimeBudget budget(1000, 10);
  EXPECT_TRUE(budget.has_any(200'001, 0));
  budget.spend(200'000, 2000, 0);
  EXPECT_FALSE(budget.has_any(200'001, 0));
  EXPECT_TRUE(budget.has_any(300'000, 0));
  EXPECT_TRUE(budget.has_any(1000, 0));
}

TEST(MayBlock, StopsOnlyUsersWhoseReadsBlock) {
  std::vector<std::uint32_t> blocked(7, 1000);
  EXPECT_TRUE(may_block(blocked, 1000));
  blocked.push_back(1000);
  EXPECT_FALSE(may_block(blocked, 1000));
  for (std::uint32_t user = 100'000; blocked.size() < 32; ++user) blocked.push_back(user);
  EXPECT_FALSE(may_block(blocked, 100'000 + 5000)) << "a subordinate user of the same one";
  EXPECT_TRUE(may_block(blocked, 1001));
  EXPECT_TRUE(may_block(blocked, 500'000));
  EXPECT_TRUE(may_block(blocked, UINT32_MAX)) << "paths";
  blocked.resize(64, UINT32_MAX);
  EXPECT_FALSE(may_block(blocked, UINT32_MAX));
  EXPECT_TRUE(may_block(blocked, 1001));
  blocked.resize(256, 7);
  EXPECT_FALSE(may_block(blocked, 1001));
}

TEST(LeftAloneList, IsBounded) {
  LeftAloneList list;
  for (std::uint32_t pid = 1; pid <= 3000; ++pid)
    list.add(blocked_process(pid, pid), Clock::time_point() + seconds(pid));
  EXPECT_EQ(list.all().size(), 1024U);
  EXPECT_EQ(list.all().back().pid, 3000U);
}

}  // namespace
}  // namespace nopspan::collector
