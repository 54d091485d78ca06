// SPDX-License-Identifier: Apache-2.0
// The sequences of one thread: which entries are new, and which are missing.
#include "stream/thread_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(ThreadLedger, TakesWhatComesInOrder) {
  ThreadLedger thread;
  EXPECT_THAT(thread.arrive({0, 5}), ElementsAre(Sequences{0, 5}));
  EXPECT_THAT(thread.arrive({5, 9}), ElementsAre(Sequences{5, 9}));
  EXPECT_EQ(thread.next(), 9);
  EXPECT_EQ(thread.missing(), 0);
}

TEST(ThreadLedger, FindsWhatIsNewBetweenWhatIsNot) {
  ThreadLedger thread;
  thread.arrive({2, 4});
  thread.arrive({6, 8});
  EXPECT_THAT(thread.arrive({0, 10}), ElementsAre(Sequences{0, 2}, Sequences{4, 6}, Sequences{8, 10}));
  EXPECT_EQ(thread.missing(), 0);
}

TEST(ThreadLedger, MissesWhatIsKnownToHaveBeenEmitted) {
  ThreadLedger thread;
  thread.arrive({0, 5});
  thread.emitted_until(8);
  EXPECT_EQ(thread.missing(), 3);
  thread.emitted_until(2);
  EXPECT_EQ(thread.missing(), 3);
  EXPECT_THAT(thread.arrive({5, 8}), ElementsAre(Sequences{5, 8}));
  EXPECT_EQ(thread.missing(), 0);
}

TEST(ThreadLedger, GivesTheOldestGapUpWhenThereAreTooMany) {
  ThreadLedger thread;
  for (std::uint64_t i = 0; i < 100; ++i) thread.arrive({i * 4, i * 4 + 1});
  EXPECT_EQ(thread.missing(), 99 * 3);
  EXPECT_THAT(thread.arrive({1, 4}), IsEmpty()) << "it was counted as lost";
  EXPECT_EQ(thread.missing(), 99 * 3);
  EXPECT_THAT(thread.arrive({98 * 4 + 1, 99 * 4}), ElementsAre(Sequences{98 * 4 + 1, 99 * 4})) << "a young gap is open";
}

// A plain set of sequences as the model. It has gaps that are filled, entries that come twice, and threads whose first
// entries were there before.
TEST(ThreadLedger, AgreesWithASetOfSequences) {
  std::mt19937 random(5);  // NOLINT: the same in every run
  for (int round = 0; round < 300; ++round) {
    ThreadLedger thread(round % 3);
    std::set<std::uint64_t> arrived;
    std::uint64_t top = round % 3;
    for (int step = 0; step < 12; ++step) {
      const std::uint64_t first = random() % 30, next = first + random() % 8;
      std::set<std::uint64_t> fresh;
      for (const Sequences& part : thread.arrive({first, next})) {
        for (std::uint64_t i = part.first; i < part.next; ++i) EXPECT_TRUE(fresh.insert(i).second);
      }
      std::set<std::uint64_t> expected;
      for (std::uint64_t i = first; i < next; ++i) {
        if (i < static_cast<std::uint64_t>(round % 3)) continue;
        top = std::max(top, i + 1);
        if (arrived.insert(i).second) expected.insert(i);
      }
      ASSERT_EQ(fresh, expected);
      ASSERT_EQ(thread.missing(), top - round % 3 - arrived.size());
    }
  }
}

}  // namespace
}  // namespace nopspan::collector
