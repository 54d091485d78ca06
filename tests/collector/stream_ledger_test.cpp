// SPDX-License-Identifier: Apache-2.0
// The sequences of one thread: which entries are new, and which are missing.
#include "live/stream_ledger.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

TEST(StreamLedger, TakesWhatComesInOrder) {
  StreamLedger stream;
  EXPECT_THAT(stream.arrive({0, 5}), ElementsAre(Sequences{0, 5}));
  EXPECT_THAT(stream.arrive({5, 9}), ElementsAre(Sequences{5, 9}));
  EXPECT_EQ(stream.next(), 9);
  EXPECT_EQ(stream.missing(), 0);
}

TEST(StreamLedger, DropsWhatCameBefore) {
  StreamLedger stream;
  stream.arrive({0, 5});
  EXPECT_THAT(stream.arrive({0, 5}), IsEmpty());
  EXPECT_THAT(stream.arrive({3, 8}), ElementsAre(Sequences{5, 8}));
  EXPECT_THAT(stream.arrive({2, 4}), IsEmpty());
}

TEST(StreamLedger, CountsAGapUntilItIsFilled) {
  StreamLedger stream;
  stream.arrive({0, 5});
  stream.arrive({10, 12});
  EXPECT_EQ(stream.missing(), 5);
  EXPECT_THAT(stream.arrive({4, 11}), ElementsAre(Sequences{5, 10}));
  EXPECT_EQ(stream.missing(), 0);
}

TEST(StreamLedger, FindsWhatIsNewBetweenWhatIsNot) {
  StreamLedger stream;
  stream.arrive({2, 4});
  stream.arrive({6, 8});
  EXPECT_THAT(stream.arrive({0, 10}), ElementsAre(Sequences{0, 2}, Sequences{4, 6}, Sequences{8, 10}));
  EXPECT_EQ(stream.missing(), 0);
}

TEST(StreamLedger, MissesWhatTheFirstSequenceSaysCameBefore) {
  StreamLedger stream;
  stream.arrive({7, 8});
  EXPECT_EQ(stream.missing(), 7);
}

TEST(StreamLedger, KnowsNothingOfWhatWasThereBeforeIt) {
  StreamLedger stream(10);
  EXPECT_THAT(stream.arrive({6, 12}), ElementsAre(Sequences{10, 12}));
  EXPECT_THAT(stream.arrive({2, 9}), IsEmpty());
  EXPECT_EQ(stream.missing(), 0);
}

TEST(StreamLedger, MissesWhatIsKnownToHaveBeenEmitted) {
  StreamLedger stream;
  stream.arrive({0, 5});
  stream.emitted_until(8);
  EXPECT_EQ(stream.missing(), 3);
  stream.emitted_until(2);
  EXPECT_EQ(stream.missing(), 3);
  EXPECT_THAT(stream.arrive({5, 8}), ElementsAre(Sequences{5, 8}));
  EXPECT_EQ(stream.missing(), 0);
}

TEST(StreamLedger, GivesTheOldestGapUpWhenThereAreTooMany) {
  StreamLedger stream;
  for (std::uint64_t i = 0; i < 100; ++i) stream.arrive({i * 4, i * 4 + 1});
  EXPECT_EQ(stream.missing(), 99 * 3);
  EXPECT_THAT(stream.arrive({1, 4}), IsEmpty()) << "it was counted as lost";
  EXPECT_EQ(stream.missing(), 99 * 3);
  EXPECT_THAT(stream.arrive({98 * 4 + 1, 99 * 4}), ElementsAre(Sequences{98 * 4 + 1, 99 * 4})) << "a young gap is open";
}

// A plain set of sequences as the model.
TEST(StreamLedger, AgreesWithASetOfSequences) {
  std::mt19937 random(5);  // NOLINT: the same in every run
  for (int round = 0; round < 300; ++round) {
    StreamLedger stream(round % 3);
    std::set<std::uint64_t> arrived;
    std::uint64_t top = round % 3;
    for (int step = 0; step < 12; ++step) {
      const std::uint64_t first = random() % 30, next = first + random() % 8;
      std::set<std::uint64_t> fresh;
      for (const Sequences& part : stream.arrive({first, next})) {
        for (std::uint64_t i = part.first; i < part.next; ++i) EXPECT_TRUE(fresh.insert(i).second);
      }
      std::set<std::uint64_t> expected;
      for (std::uint64_t i = first; i < next; ++i) {
        if (i < static_cast<std::uint64_t>(round % 3)) continue;
        top = std::max(top, i + 1);
        if (arrived.insert(i).second) expected.insert(i);
      }
      ASSERT_EQ(fresh, expected);
      ASSERT_EQ(stream.missing(), top - round % 3 - arrived.size());
    }
  }
}

}  // namespace
}  // namespace nopspan::collector
