// SPDX-License-Identifier: Apache-2.0
// Conversion of monotonic times to Unix times.
#include "stream/clock_map.h"

#include "model/entry.h"

#include <gtest/gtest.h>

namespace nopspan::collector {
namespace {

// Clocks that a test can set. Reading one takes some time.
class Clocks : public testing::Test {
 protected:
  std::uint64_t monotonic = 100 * kSecond;
  std::uint64_t offset = 1'700'000'000 * kSecond;
  std::uint64_t reading_ns = 20;
  WallClock clock{[this] { return monotonic += reading_ns; }, [this] { return (monotonic += reading_ns) + offset; }};
  ClockSamples map{clock.sample()};

  void pass(std::uint64_t ns) {
    monotonic += ns;
    map.add(clock.sample());
  }
  void expect_unix(std::uint64_t monotonic_ns, std::uint64_t unix_ns) const {
    EXPECT_NEAR(static_cast<double>(map.to_unix(monotonic_ns) - unix_ns), 0, static_cast<double>(map.error_ns()));
  }
};

TEST_F(Clocks, MapsTheWallClock) {
  pass(kSecond);
  expect_unix(monotonic, monotonic + offset);
  expect_unix(monotonic - kSecond, monotonic - kSecond + offset);
  EXPECT_LE(map.error_ns(), 6'000);
  EXPECT_EQ(map.steps(), 0);
}

TEST_F(Clocks, MapsEachTimeAsTheClockWasThen) {
  const std::uint64_t before = monotonic, old_offset = offset;
  pass(10 * kSecond);
  offset -= 5 * kSecond;  // the clock was set back
  pass(kSecond);
  const std::uint64_t after = monotonic;
  pass(10 * kSecond);
  expect_unix(before, before + old_offset);
  expect_unix(after, after + offset);
  EXPECT_EQ(map.steps(), 1);
}

TEST_F(Clocks, FollowsASuspendInWhichTheMonotonicClockStands) {
  pass(kSecond);
  offset += 8 * 3600 * kSecond;
  pass(kSecond);
  expect_unix(monotonic, monotonic + offset);
}

TEST_F(Clocks, FollowsAClockThatIsSlewed) {
  for (int i = 0; i < 100'000; ++i) {  // 500 ppm for nearly three hours, which is more samples than the map keeps
    offset += 50'000;
    pass(kSecond / 10);
  }
  expect_unix(monotonic, monotonic + offset);
  EXPECT_EQ(map.steps(), 0);
}

TEST_F(Clocks, SaysHowFarItMayBeOff) {
  reading_ns = 400'000;
  pass(kSecond);
  EXPECT_GE(map.error_ns(), 400'000);
  EXPECT_LE(map.error_ns(), 410'000);
  reading_ns = 20;
  pass(kSecond);
  EXPECT_GE(map.error_ns(), 400'000) << "times were mapped by that sample";
}

TEST_F(Clocks, MapsWhatWasBeforeTheFirstSampleToo) { expect_unix(1, 1 + offset); }

TEST(ClockSamples, ConvertBothWays) {
  ClockSamples samples({10 * kSecond, 1000 * kSecond, 0});
  samples.add({20 * kSecond, 1005 * kSecond, 0});
  for (const std::uint64_t ns : {kSecond, 10 * kSecond, 20 * kSecond - 1, 20 * kSecond, 30 * kSecond}) {
    EXPECT_EQ(samples.to_monotonic(samples.to_unix(ns)), ns);
  }
  EXPECT_EQ(samples.to_monotonic(5), 0U) << "before the clock began";
}

TEST(WallClock, MapsNowToNow) {
  WallClock clock;
  EXPECT_GE(clock.change_fd(), 0);
  EXPECT_FALSE(clock.has_changed());
  const ClockSamples map(clock.sample());
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  const auto unix_ns = static_cast<std::uint64_t>(now.tv_sec) * kSecond + static_cast<std::uint64_t>(now.tv_nsec);
  EXPECT_LT(map.to_unix(monotonic_now()) - unix_ns + kSecond, 60 * kSecond);
}

}  // namespace
}  // namespace nopspan::collector
