// SPDX-License-Identifier: Apache-2.0
// Which spans ran while the collector attached to a file.
#include "reader/attach_times.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace nopspan::collector {
namespace {

TEST(AttachTimes, OverlapEverythingUntilTheFirstAttachHasEnded) {
  AttachTimes times;
  EXPECT_TRUE(times.overlap(5, 6));
  times.end(100, true);
  EXPECT_TRUE(times.overlap(5, 6)) << "given times from before the attach";
  EXPECT_TRUE(times.overlap(99, 200));
  EXPECT_FALSE(times.overlap(100, 200));
}

TEST(AttachTimes, OverlapWhatBeganBeforeTheEndOfAnAttachAndEndedAfterItsBegin) {
  AttachTimes times;
  times.end(100, true);
  times.begin(200);
  times.end(210, true);
  EXPECT_FALSE(times.overlap(100, 199));
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_TRUE(times.overlap(150, UINT64_MAX));
  EXPECT_TRUE(times.overlap(204, 205));
  EXPECT_TRUE(times.overlap(209, 300));
  EXPECT_FALSE(times.overlap(210, 300));
}

TEST(AttachTimes, OverlapWhatEndsWhileAnAttachIsInProgress) {
  AttachTimes times;
  times.end(100, true);
  times.begin(200);
  EXPECT_FALSE(times.overlap(150, 199));
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_TRUE(times.overlap(300, 400));
}

TEST(AttachTimes, ForgetAnAttachThatFailed) {
  AttachTimes times;
  times.end(100, true);
  times.begin(200);
  times.end(210, false);
  EXPECT_FALSE(times.overlap(150, 300));
  times.end(400, true);  // none is in progress
  EXPECT_FALSE(times.overlap(150, 500));
}

TEST(AttachTimes, AreOneForSeveralFilesThatAreAttachedToAtOnce) {
  AttachTimes times;
  times.begin(50);  // the first one is still in progress
  times.end(100, true);
  times.begin(200);
  times.begin(205);
  times.end(210, true);
  EXPECT_TRUE(times.overlap(150, 200));
  EXPECT_FALSE(times.overlap(100, 199));
}

TEST(AttachTimes, AreBounded) {
  AttachTimes times;
  times.end(100, true);
  constexpr std::uint64_t kMany = 5000;
  for (std::uint64_t i = 1; i <= kMany; ++i) {
    times.begin(1000 * i);
    times.end(1000 * i + 10, true);
  }
  EXPECT_TRUE(times.overlap(1000 * kMany - 1, 1000 * kMany + 1));
  EXPECT_FALSE(times.overlap(1000 * kMany - 100, 1000 * kMany - 1));
  // What is too long ago to be known counts as overlapped.
  EXPECT_TRUE(times.overlap(1500, 1501));
}

}  // namespace
}  // namespace nopspan::collector
