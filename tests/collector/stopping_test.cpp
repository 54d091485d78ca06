// SPDX-License-Identifier: Apache-2.0
// The deadline at which a command ends.
#include "base/stopping.h"

#include <gtest/gtest.h>

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kHour = 3600'000'000'000;

TEST(Deadline, IsNeverWithoutADuration) {
  const std::atomic<bool> stop = false;
  Deadline never(0, stop);
  never.begin();
  EXPECT_FALSE(never.is_over());
  EXPECT_EQ(never.milliseconds(50), 50);
}

TEST(Deadline, CountsFromItsBeginning) {
  const std::atomic<bool> stop = false;
  Deadline soon(1, stop);
  EXPECT_FALSE(soon.is_over());
  EXPECT_EQ(soon.milliseconds(50), 50);
  soon.begin();
  while (!soon.is_over()) continue;
  soon.begin();  // has no effect, because it has already begun
  EXPECT_TRUE(soon.is_over());
  EXPECT_EQ(soon.milliseconds(50), 0);
}

TEST(Deadline, LetsNobodyWaitLongerThanItIsAway) {
  const std::atomic<bool> stop = false;
  Deadline later(kHour, stop);
  later.begin();
  EXPECT_FALSE(later.is_over());
  EXPECT_EQ(later.milliseconds(50), 50);
  EXPECT_LE(later.milliseconds(2 * 3600'000), 3600'000);
}

TEST(Deadline, IsWhenTheProgramIsToStop) {
  std::atomic<bool> stop = false;
  Deadline later(kHour, stop);
  later.begin();
  stop = true;
  EXPECT_TRUE(later.is_over());
  EXPECT_TRUE(Deadline(0, stop).is_over());
}

}  // namespace
}  // namespace nopspan::collector
