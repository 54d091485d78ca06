// SPDX-License-Identifier: Apache-2.0
#include "open/open_requests.h"

#include "batch_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<nopspan_member> with_keys(const std::vector<unsigned long>& keys) {
  std::vector<nopspan_member> members;
  for (const unsigned long key : keys) members.push_back({key, 0, 0, 1, 0, 0, NOPSPAN_MEMBER_OWN_KEY});
  return members;
}

TEST(EarlyRequests, AreThoseOfTheLastStepWithItsParts) {
  const nopspan_member recorded{4711, 0, 0, 1, 0, 0, 0};
  const nopspan_member by_trace{4712, 0, 0, 1, 0, 0, NOPSPAN_MEMBER_OWN_KEY | NOPSPAN_MEMBER_TRACE_KEY};
  BatchBuilder batch;
  batch.step(1, with_keys({1, 2, 3}), 3).step(2, with_keys({2, 3}), 5).members(2, with_keys({5}), 2);
  batch.members(2, {recorded, by_trace}, 3).members(1, with_keys({6}), 9);
  EarlyRequests requests;
  EXPECT_THAT(requests.keys(), IsEmpty());
  requests.add(batch.bytes(), batch.count());
  EXPECT_THAT(requests.keys(), ElementsAre(2, 3, 5));
}

TEST(EarlyRequests, OfAStepThatIsLargerThanTheBufferAreThoseOfItsLastParts) {
  // The library has flushed the step and its first part, and has written the others after that.
  BatchBuilder tail;
  tail.members(1, with_keys({5, 6}), 4).members(1, with_keys({7}), 6);
  EarlyRequests requests;
  requests.add(tail.bytes(), tail.count());
  EXPECT_THAT(requests.keys(), ElementsAre(5, 6, 7));
  EXPECT_EQ(requests.unread(), 4U);

  // The next step is in the same buffer, and has not been written completely.
  BatchBuilder next;
  next.members(1, with_keys({5, 6}), 4)
      .members(1, with_keys({7}), 6)
      .step(2, with_keys({7, 8}), 5)
      .members(2, with_keys({9}), 2);
  EarlyRequests later;
  later.add(next.bytes(), next.count());
  EXPECT_THAT(later.keys(), ElementsAre(7, 8, 9));
  EXPECT_EQ(later.unread(), 2U);
}

TEST(EarlyRequests, OfManyStepsAreAllThere) {
  EarlyRequests requests;
  for (unsigned long id = 1; id <= 200; ++id) {
    std::vector<unsigned long> keys(500);
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = id + i;
    BatchBuilder batch;
    batch.step(id, with_keys(keys), 500);
    batch.request().start_ns = id;
    requests.add(batch.bytes(), batch.count());
  }
  EXPECT_EQ(requests.keys().size(), 500U) << "only those of the last step count";
  EXPECT_EQ(requests.unread(), 0U);
}

TEST(EarlyRequests, OfAnyBytesAreBounded) {
  std::mt19937_64 random(9);  // NOLINT: the same in every run
  EarlyRequests requests;
  for (std::uint64_t round = 0; round < 2000; ++round) {
    std::vector<unsigned long> keys(100);
    for (unsigned long& key : keys) key = random();
    BatchBuilder batch;
    batch.step(1, with_keys(keys), 100).members(1, with_keys(keys), 100);
    std::string bytes(batch.bytes());
    for (int i = 0; i < 4; ++i) bytes[random() % bytes.size()] = static_cast<char>(random());
    requests.add(bytes, batch.count());
  }
  EXPECT_LE(requests.keys().size(), 65'536U);
  EXPECT_GT(requests.unread(), 0U);
}

}  // namespace
}  // namespace nopspan::collector
