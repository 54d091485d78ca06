// SPDX-License-Identifier: Apache-2.0
#include "reader/held_messages.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace nopspan::collector {
namespace {

nopspan_message message_of(std::uint32_t pid, std::uint64_t sequence) {
  nopspan_message message{};
  message.pid = pid;
  message.first = sequence;
  return message;
}

std::vector<std::uint64_t> sequences(const HeldMessages::Released& released) {
  std::vector<std::uint64_t> all;
  for (const auto& one : released.messages) all.push_back(one.message.first);
  return all;
}

TEST(HeldMessages, ReleasesMessagesInOrderWhenEverythingHasHappened) {
  HeldMessages held;
  EXPECT_FALSE(held.holds(7));
  held.hold(7, HeldMessages::live | HeldMessages::described, 1000);
  held.hold(8, HeldMessages::described, 1000);
  for (const std::uint64_t sequence : {1, 2}) EXPECT_TRUE(held.add(message_of(7, sequence), "bytes"));
  held.happened(7, HeldMessages::described);
  EXPECT_TRUE(held.take_due(2000).empty());
  held.happened(HeldMessages::live);
  const auto due = held.take_due(2000);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].pid, 7U);
  EXPECT_EQ(due[0].missing, 0U);
  EXPECT_EQ(sequences(due[0]), (std::vector<std::uint64_t>{1, 2}));
  EXPECT_EQ(due[0].messages[0].bytes, "bytes");
  EXPECT_FALSE(held.holds(7));
  EXPECT_TRUE(held.holds(8));
}

TEST(HeldMessages, ReleasesMessagesThatHaveWaitedTooLong) {
  HeldMessages held;
  held.hold(7, HeldMessages::begun, 1000);
  EXPECT_TRUE(held.add(message_of(7, 1), ""));
  held.hold(7, HeldMessages::described, 2000);  // does not prolong the time
  EXPECT_TRUE(held.take_due(1000 + HeldMessages::kLongest - 1).empty());
  const auto due = held.take_due(1000 + HeldMessages::kLongest);
  ASSERT_EQ(due.size(), 1U);
  EXPECT_EQ(due[0].missing, unsigned{HeldMessages::begun | HeldMessages::described});
  EXPECT_EQ(sequences(due[0]), std::vector<std::uint64_t>{1});
}

TEST(HeldMessages, BoundsTheMemoryOfAProcessAndOfAll) {
  HeldMessages held;
  const std::string bytes(100'000, 'x');
  const auto fill = [&](std::uint32_t pid) {
    held.hold(pid, HeldMessages::described, 1000);
    std::size_t messages = 0;
    while (held.add(message_of(pid, messages), bytes)) ++messages;
    return messages;
  };
  const std::size_t of_one = HeldMessages::kMostBytesOfProcess / (bytes.size() + sizeof(HeldMessages::Message));
  EXPECT_EQ(fill(1), of_one);
  std::size_t of_all = of_one;
  for (std::uint32_t pid = 2; pid < 40; ++pid) of_all += fill(pid);
  EXPECT_EQ(of_all, HeldMessages::kMostBytes / (bytes.size() + sizeof(HeldMessages::Message)));
  // What is released makes room.
  EXPECT_EQ(held.take(1).messages.size(), of_one);
  EXPECT_EQ(fill(40), of_one);
}

}  // namespace
}  // namespace nopspan::collector
