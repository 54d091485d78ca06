// SPDX-License-Identifier: Apache-2.0
// The hash table of trace ids.
#include "trace/trace.h"

#include <gtest/gtest.h>

#include <random>
#include <unordered_map>
#include <unordered_set>

namespace nopspan::collector {
namespace {

TraceId id_of(std::uint64_t first, std::uint64_t second) {
  TraceId id;
  std::memcpy(id.bytes, &first, sizeof(first));
  std::memcpy(id.bytes + sizeof(first), &second, sizeof(second));
  return id;
}

TEST(TraceIdTable, KnowsWhatWasAddedAndNotErased) {
  std::mt19937_64 random(1);
  TraceIdTable<std::uint64_t> table(random());
  std::unordered_map<std::uint64_t, std::uint64_t> expected;
  for (std::uint64_t step = 1; step < 100'000; ++step) {
    const std::uint64_t number = random() % 1000 + 1;
    const TraceId id = id_of(number, ~number);
    if (random() % 2 == 0) {
      table.erase(id);
      expected.erase(number);
    } else {
      table.insert(id) = expected[number] = step;
    }
    const std::uint64_t other = random() % 1000 + 1;
    const std::uint64_t* const found = table.find(id_of(other, ~other));
    const auto known = expected.find(other);
    ASSERT_EQ(found != nullptr, known != expected.end()) << step;
    if (found != nullptr) {
      ASSERT_EQ(*found, known->second) << step;
    }
  }
  EXPECT_EQ(table.find(TraceId()), nullptr);
}

// Many programs number their requests. Hashes of random ids would have about 41,000 different values here.
TEST(TraceIdTable, SpreadsIdsThatDifferInAFewBytes) {
  std::mt19937_64 random(1);
  for (std::size_t low = 1; low < sizeof(TraceId); ++low) {
    for (std::size_t high = 0; high < low; ++high) {
      TraceId id = id_of(low % 2 == 0 ? 1 : random(), low % 3 == 0 ? 1 : random());
      const std::uint64_t seed = random();
      std::unordered_set<std::uint64_t> slots;
      for (unsigned number = 0; number < 0x10000; ++number) {
        id.bytes[high] = static_cast<unsigned char>(number >> 8U);
        id.bytes[low] = static_cast<unsigned char>(number);
        slots.insert(hash_of(id, seed) & 0xffffU);
      }
      EXPECT_GT(slots.size(), 38'000U) << "bytes " << high << " and " << low;
    }
  }
}

}  // namespace
}  // namespace nopspan::collector
