// SPDX-License-Identifier: Apache-2.0
// The memory that the library maps: slabs and blocks.
#include "fake_clock.h"
#include "in_child.h"
#include "in_thread.h"
#include "sanitizers.h"
#if defined(__x86_64__)
#include "single_step.h"
#endif

#include "memory/slabs.h"
#include "state/header_store.h"

#include <nopspan/context.h>

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

namespace {

using nopspan::detail::Block;
using nopspan::detail::give_back_block;
using nopspan::detail::map_memory;
using nopspan::detail::Slab;
using nopspan::detail::Slabs;
using nopspan::detail::take_block;

constexpr std::size_t kPage = 65536;  // a multiple of every page size

std::size_t resident_pages(void* at, std::size_t bytes) {
  std::vector<unsigned char> pages(bytes / static_cast<std::size_t>(sysconf(_SC_PAGESIZE)));
  EXPECT_EQ(mincore(at, bytes, pages.data()), 0);
  return static_cast<std::size_t>(std::count_if(pages.begin(), pages.end(), [](unsigned char p) { return p & 1; }));
}

TEST(Slabs, ClaimEachElementOnceUntilTheTableIsFull) {
  Slab table[2] = {};
  Slabs slabs(table, 4, kPage);
  std::set<std::pair<std::uint32_t, std::uint64_t>> claimed;
  for (int i = 0; i < 8; ++i) {
    const Slabs::Claim claim = slabs.claim(1);
    EXPECT_EQ(__builtin_popcountll(claim.bits), 1);
    EXPECT_TRUE(claimed.insert({claim.slab, claim.bits}).second);
  }
  EXPECT_EQ(slabs.claim(1).bits, 0U);
  EXPECT_EQ(slabs.claim(1).bits, 0U);
  slabs.give_back({1, 4});
  const Slabs::Claim again = slabs.claim(3);
  EXPECT_EQ(again.slab, 1U);
  EXPECT_EQ(again.bits, 4U);
}

TEST(Slabs, DoNotSearchAgainOnceTheTableIsFull) {
  expect_in_child([] {
    auto* const table = static_cast<Slab*>(map_memory(kPage));  // zero-filled
    Slabs slabs(*reinterpret_cast<Slab(*)[16]>(table), 64, kPage);
    while (slabs.claim(64).bits != 0) continue;
    mprotect(table, kPage, PROT_NONE);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(slabs.claim(1).bits, 0U);
  });
}

#if defined(__x86_64__)
TEST(Slabs, ClaimLaterWhatIsGivenBackWhileTheyFindThatTheTableIsFull) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "its own code would be interrupted too";
  static Slab table[2];
  static Slabs slabs(table, 1, kPage);
  static Slabs::Claim other;
  for (const std::uint32_t slab : {0U, 1U}) {
    while (slabs.claim(1).bits != 0) continue;
    other = {slab, 1};
    slabs.give_back(other);
    Slabs::Claim claimed = slabs.claim(1);
    for (unsigned long at = 1; claimed.bits != 0; ++at) {
      const auto give_back = [] { slabs.give_back(other); };
      if (!run_interrupted(at, give_back, [&] { claimed = slabs.claim(1); })) break;
      if (claimed.bits == 0) claimed = slabs.claim(1);
      EXPECT_NE(claimed.bits, 0U) << at;
    }
  }
}

TEST(Slabs, AreEnoughForThreadsThatMapOneAtTheSameTime) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "its own code would be interrupted too";
  static Slabs* slabs;
  static Slabs::Claim other;
  constexpr unsigned long kStep = 5;
  unsigned long at = 1, mapped_twice = 0;
  for (bool is_interrupted = true; is_interrupted; at += kStep) {
    Slab table[2] = {};
    Slabs fresh(table, 2, kPage);
    slabs = &fresh;
    other = {};
    Slabs::Claim claimed;
    const auto claim_other = [] { other = slabs->claim(1); };
    is_interrupted = run_interrupted(at, claim_other, [&] { claimed = slabs->claim(1); });
    EXPECT_TRUE(claimed.bits != 0 && (other.bits != 0 || !is_interrupted)) << at;
    if (table[1].memory != nullptr) ++mapped_twice;
    slabs->unmap();
  }
  // Only from the last search to the change of the table, and never while the kernel maps memory.
  EXPECT_LT(mapped_twice * kStep, at / 2);
}
#endif

TEST(Slabs, ClaimManyOfOneSlabAtOnce) {
  Slab table[1] = {};
  Slabs slabs(table, 64, kPage);
  EXPECT_EQ(slabs.claim(16).bits, 0xffffU);
  EXPECT_EQ(slabs.claim(64).bits, ~std::uint64_t{0xffff});
}

TEST(Slabs, ReturnThePagesOfAllIdleSlabsButTheFirstOnesAndOne) {
  constexpr std::uint32_t kAlwaysKept = (2U << 20U) / kPage;
  constexpr std::uint32_t kSlabs = kAlwaysKept + 3;
  static Slab table[kSlabs] = {};
  Slabs slabs(table, 2, kPage);
  std::vector<Slabs::Claim> claims;
  for (std::uint32_t i = 0; i < kSlabs; ++i) {
    claims.push_back(slabs.claim(2));
    std::memset(slabs.memory(claims.back().slab), 'x', kPage);
  }
  for (const Slabs::Claim& claim : claims) slabs.give_back(claim);
  std::size_t resident = 0;
  for (std::uint32_t slab = 0; slab < kSlabs; ++slab)
    resident += resident_pages(slabs.memory(slab), kPage) > 0 ? 1U : 0U;
  EXPECT_EQ(resident, kAlwaysKept + 1);
  for (std::uint32_t i = 0; i < kSlabs; ++i) EXPECT_NE(slabs.claim(2).bits, 0U);
}

TEST(Slabs, KeepPagesThatOthersMayRead) {
  Slab table[2] = {};
  Slabs slabs(table, 1, kPage, true);
  const Slabs::Claim one = slabs.claim(1);
  const Slabs::Claim other = slabs.claim(1);
  std::memset(slabs.memory(one.slab), 'x', kPage);
  slabs.give_back(one);
  slabs.give_back(other);
  EXPECT_EQ(slabs.memory(one.slab)[kPage - 1], 'x');
}

TEST(Slabs, GiveNoElementToTwoThreads) {
  static Slab table[4] = {};
  static Slabs slabs(table, 8, kPage);
  std::atomic<unsigned> owners[4][8] = {};
  std::atomic<unsigned> shared{0};
  in_threads(4, [&](int) {
    for (int i = 0; i < 20000; ++i) {
      const Slabs::Claim claim = slabs.claim(3);
      for (std::uint64_t left = claim.bits; left != 0; left &= left - 1) {
        if (owners[claim.slab][__builtin_ctzll(left)]++ != 0) ++shared;
      }
      for (std::uint64_t left = claim.bits; left != 0; left &= left - 1) --owners[claim.slab][__builtin_ctzll(left)];
      if (claim.bits != 0) slabs.give_back(claim);
    }
  });
  EXPECT_EQ(shared, 0U);
}

TEST(Blocks, HaveTheirSizeAndAreReused) {
  for (const std::size_t size : {1UL, 4000UL, 4096UL, 20000UL, 200000UL, 300000UL, 20000000UL}) {
    const Block block = take_block(size);
    ASSERT_NE(block.bytes, nullptr) << size;
    EXPECT_GE(block.size, size);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(block.bytes) % 16, 0U);
    std::memset(block.bytes, 'x', block.size);
    give_back_block(block.bytes);
  }
  give_back_block(nullptr);
  unsigned char* const first = take_block(1000).bytes;
  give_back_block(first);
  EXPECT_EQ(take_block(1000).bytes, first);
  give_back_block(first);
  EXPECT_EQ(take_block(SIZE_MAX).bytes, nullptr);
  EXPECT_EQ(take_block(SIZE_MAX / 2).bytes, nullptr);
}

// ---- What it costs to store headers.

using nopspan::Context;
using nopspan::detail::store_headers;

#if defined(__x86_64__)
// Clients choose how long their headers are, so a full store must not cost the others much.
TEST(HeaderStore, IsNotSearchedEachTimeIfScopesHaveAllSlots) {
  if (kThreadSanitizer || kAddressSanitizer) GTEST_SKIP() << "its own code would be interrupted too";
  expect_in_child([] {
    const FakeClock clock;
    std::vector<std::unique_ptr<nopspan::ContextScope>> scopes;
    while (store_headers("k=1", "") != 0) {
      const Context context =
          Context::from_traceparent("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "k=2");
      scopes.push_back(std::make_unique<nopspan::ContextScope>(context));
    }
    EXPECT_FALSE(run_interrupted(
        1000, [] {}, [] { EXPECT_EQ(store_headers("k=3", ""), 0U); }));
    while (!scopes.empty()) scopes.pop_back();
    EXPECT_EQ(store_headers("k=4", ""), 0U) << "the searches are not paid yet";
    FakeClock::advance(1'000'000'000);
    EXPECT_NE(store_headers("k=5", ""), 0U);
  });
}
#endif

// A thread may be preempted while it searches.
TEST(HeaderStore, StoresThoughSearchesTakeLong) {
  expect_in_child([] {
    const FakeClock clock;
    FakeClock::advance_at_each_read(10 * kMillisecond);
    for (int i = 0; i < 300'000; ++i) ASSERT_NE(store_headers("k=1", ""), 0U) << i;
  });
}

}  // namespace
