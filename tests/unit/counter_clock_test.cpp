// SPDX-License-Identifier: Apache-2.0
// The clock of the hot path, on simulated machines and on this one.
#include "thread/counter_clock.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <random>
#include <utility>

namespace {

using nopspan::detail::CounterClock;

// A simulated machine. Reading its clock or counter takes simulated time.
struct Invented {
  static constexpr bool has_counter = true;

  // How far the clock and the counter advance per ns of simulated time.
  static inline double clock_rate = 1;
  static inline double counter_rate = 2.6;
  static inline double clock_takes = 25, counter_takes = 8;  // ns
  static inline double granularity = 1;                      // ns
  static inline double clock_ns = 0, ticks = 0;
  static inline std::uint64_t clock_reads = 0, counter_reads = 0;
  static inline double interrupted_in = 0, interrupted_ns = 0;  // one reading in `interrupted_in` takes longer

  static inline std::mt19937 random{1};

  static void reset() {
    clock_rate = 1;
    counter_rate = 2.6;
    clock_takes = 25;
    counter_takes = 8;
    granularity = 1;
    clock_ns = 5e9;
    ticks = 7e12;
    clock_reads = counter_reads = 0;
    interrupted_in = interrupted_ns = 0;
    random.seed(1);
  }
  static double any(double below) { return std::uniform_real_distribution<double>(0, below)(random); }
  static void pass(double ns) {
    clock_ns += ns * clock_rate;
    ticks += ns * counter_rate;
  }
  static void take(double ns) {
    pass(ns / 2 + any(ns / 4));
    if (interrupted_in > 0 && any(interrupted_in) < 1) pass(any(interrupted_ns));
  }
  static std::uint64_t clock() noexcept {
    ++clock_reads;
    take(clock_takes);
    const auto read = static_cast<std::uint64_t>(std::floor(clock_ns / granularity) * granularity);
    take(clock_takes);
    return read;
  }
  static std::uint64_t counter() noexcept {
    ++counter_reads;
    take(counter_takes);
    const auto read = static_cast<std::uint64_t>(ticks);
    take(counter_takes);
    return read;
  }
};

class CounterClockTest : public testing::Test {
 protected:
  CounterClockTest() { Invented::reset(); }
  void begin_anew() {
    Invented::reset();
    clock_ = {};
    last_ = 0;
  }

  // Takes one reading, and checks that it is neither before the previous reading nor later than the true clock.
  void read() {
    const double before = Invented::clock_ns;
    const std::uint64_t now = clock_.now();
    const double after = Invented::clock_ns;
    const auto reported = static_cast<double>(now);
    error_ = std::max({error_, before - reported - Invented::granularity, reported - after});
    went_back_ = went_back_ || now < last_;
    last_ = now;
  }
  // Takes readings for `ns`, one every `every_ns` on average. Returns how many.
  double run(double ns, double every_ns = 300) {
    double readings = 0;
    for (const double end = Invented::clock_ns + ns; Invented::clock_ns < end; ++readings) {
      read();
      Invented::pass(Invented::any(2 * every_ns));
    }
    return readings;
  }
  // The largest error since the previous call.
  double error() { return std::exchange(error_, 0); }
  // How many of a run's readings came from the true clock, in per mille.
  double true_readings_in(double ns) {
    Invented::clock_reads = 0;
    const double readings = run(ns);
    return 1000.0 * static_cast<double>(Invented::clock_reads) / readings;
  }

  CounterClock<Invented> clock_;
  double error_ = 0;
  std::uint64_t last_ = 0;
  bool went_back_ = false;
};

TEST_F(CounterClockTest, ReadsTheTrueClockOnceAMillisecond) {
  run(10e6);
  EXPECT_LT(true_readings_in(1e9), 1.0);
  EXPECT_LT(error(), 10);
  EXPECT_FALSE(went_back_);
}

TEST_F(CounterClockTest, IsTheTrueClockUntilTheCounterIsProven) {
  run(4e6);
  EXPECT_GT(true_readings_in(1e6), 900);
  EXPECT_EQ(error(), 0);
}

TEST_F(CounterClockTest, NeverTrustsACounterThatIsNotSteady) {
  for (int i = 0; i < 300; ++i) {
    Invented::counter_rate = 2 + Invented::any(1);
    EXPECT_GT(true_readings_in(1e6), 900);
  }
  EXPECT_EQ(error(), 0);
}

TEST_F(CounterClockTest, NeverTrustsACounterThatIsSteadyForAShortTime) {
  for (int i = 0; i < 30; ++i) {
    Invented::counter_rate = i % 2 == 0 ? 2.6 : 3.1;
    EXPECT_GT(true_readings_in(3.5e6), 900);
  }
  EXPECT_EQ(error(), 0);
}

TEST_F(CounterClockTest, NeverReadsTheCounterOfAMachineWithASlowClock) {
  for (const double takes : {140.0, 700.0, 4000.0}) {
    begin_anew();
    Invented::clock_takes = takes;
    EXPECT_LT(true_readings_in(100e6), 1010) << takes;  // and does not retry all the time
    run(3e9, 50'000);
    EXPECT_EQ(Invented::counter_reads, 0U) << takes;
    EXPECT_EQ(error(), 0) << takes;
  }
}

TEST_F(CounterClockTest, NeverReadsTheCounterBesideACoarseClock) {
  Invented::granularity = 1000;
  run(3e9, 50'000);
  EXPECT_EQ(Invented::counter_reads, 0U);
  EXPECT_FALSE(went_back_);
}

TEST_F(CounterClockTest, FollowsAClockThatIsSlewed) {
  run(10e6);
  for (const double rate : {1 + 500e-6, 1 - 500e-6, 1.0, 1 + 300e-6, 1 - 100e-6, 1.0, 1 - 500e-6, 1 + 500e-6}) {
    run(Invented::any(1e6), 10);  // not at the moment at which the true clock was read
    error();
    Invented::clock_rate = rate;
    run(2e6, 10);
    EXPECT_LT(error(), 1050) << rate;  // from one end of the interval to the other
    run(20e6, 10);
    error();
    run(20e6, 10);
    EXPECT_LT(error(), 10) << rate;
    EXPECT_FALSE(went_back_) << rate;
  }
  EXPECT_LT(true_readings_in(50e6), 2.0);
}

// The tick length is adjusted, as chrony does: by up to 10 %.
TEST_F(CounterClockTest, IsWrongForAMillisecondWhereTheClockIsSlewedFaster) {
  run(10e6);
  for (const double rate : {1.083, 1.0, 0.9, 1.0, 1.1, 0.9, 1.0}) {
    run(Invented::any(1e6), 10);
    error();
    const double change = std::abs(rate - Invented::clock_rate);
    Invented::clock_rate = rate;
    run(1.3e6, 10);
    EXPECT_LT(error(), change * 1.12e6) << rate;
    run(20e6, 10);
    EXPECT_LT(error(), 10) << rate;
    EXPECT_FALSE(went_back_) << rate;
  }
}

TEST_F(CounterClockTest, GoesOnWithTheCounterWhereTheClockIsSlewedALittle) {
  run(10e6);
  for (const double rate : {1 + 400e-6, 1.0, 1 - 400e-6, 1.0}) {
    Invented::clock_rate = rate;
    EXPECT_LT(true_readings_in(10e6), 2.0) << rate;
  }
  Invented::clock_rate = 1 + 600e-6;
  EXPECT_GT(true_readings_in(10e6), 300);
}

TEST_F(CounterClockTest, IsRightAfterASuspendOrAnHourWithoutSpans) {
  void (*const pauses[])() = {
      [] { Invented::ticks += 3600e9 * Invented::counter_rate; },  // the counter went on while the clock stood
      [] { Invented::ticks = 1000; },                              // the counter was reset
      [] { Invented::pass(3600e9); },                              // no spans
  };
  for (std::size_t i = 0; i < std::size(pauses); ++i) {
    begin_anew();
    run(10e6);
    pauses[i]();
    run(100e6);
    EXPECT_LT(error(), 10) << i;
    EXPECT_FALSE(went_back_) << i;
    EXPECT_LT(true_readings_in(100e6), 2.0) << i;
  }
}

// The virtual machine migrates to another host, or the counters of the processors differ.
TEST_F(CounterClockTest, NeverGoesBackWhereTheCounterDoes) {
  run(10e6);
  for (const double ns : {300.0, 5e3, 100e3, 900e3}) {
    for (int i = 0; i < 20; ++i) {
      Invented::ticks -= ns * Invented::counter_rate;
      run(8e6 + Invented::any(1e6));
    }
    EXPECT_LT(error(), 1e6) << ns;
    EXPECT_FALSE(went_back_) << ns;
  }
}

TEST_F(CounterClockTest, ProvesAllAnewAfterASecondWithoutSpans) {
  run(10e6);
  Invented::pass(0.9e9);
  EXPECT_LT(true_readings_in(1e6), 10);
  Invented::pass(1.1e9);
  EXPECT_GT(true_readings_in(4e6), 900);
}

TEST_F(CounterClockTest, DoesNotTryForAThreadOfFewSpans) {
  for (int i = 0; i < 15; ++i) read();
  EXPECT_EQ(Invented::clock_reads, 15U);
  EXPECT_EQ(Invented::counter_reads, 0U);
}

TEST_F(CounterClockTest, IsNotMisledByInterruptions) {
  Invented::interrupted_in = 20;
  for (const double ns : {300.0, 10'000.0, 3e6, 50e6}) {
    Invented::interrupted_ns = ns;
    run(2e9, 5000);
    EXPECT_LT(error(), 60) << ns;
    EXPECT_FALSE(went_back_) << ns;
  }
}

// The kernel has marked the counter as unstable and uses another clock.
TEST_F(CounterClockTest, LeavesACounterWhoseClockBecomesSlow) {
  run(10e6);
  Invented::clock_takes = 1500;
  run(5e6);
  const std::uint64_t reads = Invented::counter_reads;
  run(3e9, 50'000);
  EXPECT_EQ(Invented::counter_reads, reads);
  EXPECT_LT(error(), 10);
  EXPECT_FALSE(went_back_);
}

TEST_F(CounterClockTest, IsRightAMillisecondAfterTheCounterChangedItsPace) {
  run(10e6);
  for (const double rate : {2.0, 3.5, 1.2}) {
    Invented::counter_rate = rate;
    run(3e6);
    error();
    run(50e6);
    EXPECT_LT(error(), 10) << rate;
    EXPECT_FALSE(went_back_) << rate;
  }
}

// No kernel's clock goes back like this, but a test's clock may.
TEST_F(CounterClockTest, FollowsAnotherClockThatIsFarBehind) {
  run(10e6);
  Invented::clock_ns -= 2e9;
  Invented::pass(2e6);
  error();
  read();
  run(50e6);
  EXPECT_LT(error(), 10);
}

TEST_F(CounterClockTest, CountersOfAllPacesAreFollowed) {
  for (const double rate : {0.3, 1.0, 4.7, 6.0}) {
    begin_anew();
    Invented::counter_rate = rate;
    run(10e6);
    EXPECT_LT(true_readings_in(100e6), 2.0) << rate;
    EXPECT_LT(error(), 10) << rate;
  }
}

struct Real : nopspan::detail::ProcessorCounter {
  static std::uint64_t clock() noexcept {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
  }
};

TEST(CounterClockOfThisMachine, IsTheTrueClock) {
  CounterClock<Real> clock;
  constexpr std::uint64_t kErrorNs = 1500;  // the machine's clock may be slewing at the moment
  std::uint64_t last = 0;
  for (const std::uint64_t end = Real::clock() + 300'000'000; last < end;) {
    const std::uint64_t before = Real::clock();
    const std::uint64_t now = clock.now();
    const std::uint64_t after = Real::clock();
    ASSERT_GE(now + kErrorNs, before);
    ASSERT_LE(now, after + kErrorNs);
    ASSERT_GE(now, last);
    last = now;
  }
}

}  // namespace
