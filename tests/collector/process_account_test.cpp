// SPDX-License-Identifier: Apache-2.0
// One process's account: entries emitted, delivered and lost, by reason. And the accounts of all processes,
// and the sequences of one thread: which entries are new, and which are missing.
#include "reader/process_account.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <unistd.h>

#include <algorithm>
#include <memory>
#include <random>
#include <set>
#include <utility>

namespace nopspan::collector {
namespace {

class Account : public testing::Test {
 protected:
  ProcessAccount account{std::make_shared<Process>(), kSecond};
  std::uint64_t now = 2 * kSecond;

  // A batch arrives. New entries count as delivered.
  void arrive(std::uint64_t thread, Sequences sequences, std::uint64_t discarded = 0) {
    ProcessAccount::Thread* found = account.arriving(thread, sequences, now);
    if (found == nullptr) return;
    found->note_discarded(sequences.first, discarded);
    for (const Sequences& part : found->ledger.arrive(sequences)) account.delivered(part.count());
  }
  void report_losses(std::uint64_t thread, Sequences sequences, unsigned reason, std::uint64_t entries,
                     std::uint64_t discarded = 0) {
    Losses losses{};
    losses[reason] = entries;
    account.thread_losses(thread, sequences, losses, discarded, now);
  }
  void report_process_losses(unsigned reason, std::uint64_t entries, std::uint32_t tgid = 1) {
    Losses losses{};
    losses[reason] = entries;
    account.process_losses(tgid, losses, account.most_until(now));
  }
  void expect(const Counts& expected) {
    const Counts counts = account.counts();
    EXPECT_TRUE(counts.is_balanced());
    EXPECT_EQ(to_json(counts).dump(), to_json(expected).dump());
  }
};

TEST_F(Account, KnowsWhatBeganBeforeTheLastAttachToAFileOfTheProcess) {
  EXPECT_FALSE(account.began_before_attach(0)) << "all its files were attached before";
  account.attached(300, 5);
  account.attached(200, 4);
  EXPECT_TRUE(account.began_before_attach(299));
  EXPECT_FALSE(account.began_before_attach(300));
  EXPECT_EQ(account.counts().threads_at_attach, 5U);
  EXPECT_TRUE(account.counts().empty()) << "threads are not entries";
}

TEST_F(Account, ClosesWhenAllArrived) {
  arrive(1, {0, 10});
  arrive(2, {0, 5});
  arrive(1, {10, 12});
  expect({.emitted = 17, .delivered = 17});
}

TEST_F(Account, ExplainsAGapByWhatTheKernelSaysOfTheThread) {
  arrive(1, {0, 10});
  report_losses(1, {10, 30}, NOPSPAN_REASON_RING_FULL, 20);
  arrive(1, {30, 31});
  expect({.emitted = 31, .delivered = 11, .ring_full = 20});
}

TEST_F(Account, KnowsOfAThreadOfWhichNothingEverArrives) {
  report_losses(7, {0, 25}, NOPSPAN_REASON_FILTERED, 25);
  expect({.emitted = 25, .filtered = 25});
}

TEST_F(Account, CountsTheRestOfAGapAsMissed) {
  arrive(1, {0, 1});
  arrive(1, {11, 12});
  report_losses(1, {1, 5}, NOPSPAN_REASON_UNREADABLE, 4);
  expect({.emitted = 12, .delivered = 2, .unreadable = 4, .missed = 6});
}

TEST_F(Account, DoesNotCountAsLostWhatWasFetchedBeforeItWas) {
  arrive(1, {0, 6});  // fetched
  report_losses(1, {0, 8}, NOPSPAN_REASON_RING_FULL, 8);
  expect({.emitted = 8, .delivered = 6, .ring_full = 2});
}

TEST_F(Account, ExplainsGapsByWhatTheKernelSaysOfTheProcess) {
  arrive(1, {0, 1});
  report_process_losses(NOPSPAN_REASON_UNREADABLE, 3);
  expect({.emitted = 4, .delivered = 1, .unreadable = 3});
  // The thread's next batch shows that the three entries belonged to it.
  arrive(1, {4, 5});
  expect({.emitted = 5, .delivered = 2, .unreadable = 3});
}

TEST_F(Account, DoesNotCountTwiceWhatTheKernelSaysOfThreadAndProcess) {
  report_process_losses(NOPSPAN_REASON_RING_FULL, 9);
  report_losses(1, {0, 5}, NOPSPAN_REASON_RING_FULL, 5);
  expect({.emitted = 9, .ring_full = 9});
}

TEST_F(Account, AddsUpTheLossesOfProcessesWithTheSamePid) {
  for (int read = 0; read < 2; ++read) {
    report_process_losses(NOPSPAN_REASON_RING_FULL, 9, 101);
    report_process_losses(NOPSPAN_REASON_RING_FULL, 7, 102);
  }
  report_losses(1, {0, 9}, NOPSPAN_REASON_RING_FULL, 9);
  report_losses(2, {0, 5}, NOPSPAN_REASON_RING_FULL, 5);
  expect({.emitted = 16, .ring_full = 16});
}

TEST_F(Account, KnowsWhatTheLibraryDiscarded) {
  arrive(1, {0, 4});
  arrive(1, {10, 11});
  account.find(1)->discarded = 6;
  expect({.emitted = 11, .delivered = 5, .discarded = 6});
}

TEST_F(Account, KnowsWhatTheLibraryDiscardedFromAHitThatTheKernelCouldNotPassOn) {
  arrive(1, {0, 4});
  report_losses(1, {10, 12}, NOPSPAN_REASON_RING_FULL, 2, 6);
  report_losses(1, {15, 15}, NOPSPAN_REASON_RING_FULL, 2, 9);  // the thread has ended
  expect({.emitted = 15, .delivered = 4, .ring_full = 2, .discarded = 9});
}

TEST_F(Account, CountsWhatTheLibraryCouldNotRecordSinceTheAttach) {
  arrive(1, {0, 2});
  account.begin_library(0x1000, {.no_memory = 5, .attributes_dropped = 1});
  account.library_dropped(0x1000, {.no_memory = 7, .over_limit = 3, .attributes_dropped = 4}, now);
  account.library_dropped(0x1000, {.no_memory = 8, .over_limit = 3, .attributes_dropped = 4}, now);
  account.library_dropped(0x2000, {.reentrant = 1}, now);  // a copy that was loaded after the attach
  expect({.emitted = 9, .delivered = 2, .no_memory = 3, .over_limit = 3, .reentrant = 1, .attributes_dropped = 3});
}

TEST_F(Account, CountsWhatTheLibraryOfTheNextProgramCouldNotRecord) {
  account.library_dropped(0x1000, {.no_memory = 7}, now);
  account.library_dropped(0x1000, {.no_memory = 2}, now);
  expect({.emitted = 9, .no_memory = 9});
}

TEST_F(Account, DoesNotCountWhatALibraryDroppedBeforeItWasFirstRead) {
  account.set_some_unknown();
  account.library_dropped(0x1000, {.no_memory = 7}, now);
  account.library_dropped(0x1000, {.no_memory = 8}, now);
  expect({.emitted = 1, .no_memory = 1});
}

TEST_F(Account, DoesNotBelieveThatMoreWasDroppedThanAllCpusCanWrite) {
  account.library_dropped(0x1000, {.no_memory = UINT64_MAX}, now);
  account.library_dropped(0x1000, {}, now);
  account.library_dropped(0x1000, {.no_memory = UINT64_MAX}, now);
  expect({.emitted = account.most_until(now), .no_memory = account.most_until(now)});
}

TEST_F(Account, DoesNotCountWhatWasThereBefore) {
  account.begin_thread(1, 100, 7, now);
  arrive(1, {98, 103});
  account.find(1)->discarded = 7;
  expect({.emitted = 3, .delivered = 3});
}

TEST_F(Account, BeginsAThreadWhereItIsFirstSeenIfNotAllAreKnown) {
  account.set_some_unknown();
  arrive(1, {50, 52});
  expect({.emitted = 2, .delivered = 2});
}

// A thread's first batch may still be in the ring buffer when the collector fetches the thread's later entries.
TEST_F(Account, TakesWhatWasHandedOverBeforeWhatWasFetchedOfAThreadThatWasNotKnown) {
  account.set_some_unknown();
  arrive(1, {1, 5});  // fetched
  arrive(1, {0, 1});
  arrive(1, {1, 6});
  expect({.emitted = 6, .delivered = 6});
}

TEST_F(Account, MissesWhatLiesBetweenThoseTwo) {
  account.set_some_unknown();
  arrive(1, {13, 15});  // fetched
  arrive(1, {10, 11});
  expect({.emitted = 5, .delivered = 3, .missed = 2});
}

TEST_F(Account, DoesNotBelieveThatAThreadBeganBeforeAnyThreadCanHave) {
  account.set_some_unknown();
  arrive(1, {1ULL << 60U, (1ULL << 60U) + 3});
  arrive(1, {0, 2});
  expect({.emitted = 5, .delivered = 3, .malformed = 2});
}

TEST_F(Account, CountsARefusedLossOnce) {
  for (int reads = 0; reads < 5; ++reads)
    report_losses(1, {1ULL << 60U, (1ULL << 60U) + 3}, NOPSPAN_REASON_RING_FULL, 3);
  expect({.emitted = 3, .malformed = 3});
}

TEST_F(Account, DoesNotExplainAGapByWhatWasDiscardedBeforeAThreadWasFirstSeen) {
  account.set_some_unknown();
  arrive(1, {50, 52}, 40);
  arrive(1, {57, 60}, 42);
  expect({.emitted = 10, .delivered = 5, .missed = 3, .discarded = 2});
  arrive(1, {45, 50}, 38);  // flushed before
  expect({.emitted = 15, .delivered = 10, .missed = 1, .discarded = 4});
}

TEST_F(Account, CountsWhatTheKernelLostOfAThreadFirstSeenByThat) {
  account.set_some_unknown();
  report_losses(1, {50, 54}, NOPSPAN_REASON_RING_FULL, 4, 40);  // what was discarded before does not explain it
  report_process_losses(NOPSPAN_REASON_RING_FULL, 4);
  expect({.emitted = 4, .ring_full = 4});
}

TEST_F(Account, BelievesThatMuchWasLostBeforeAThreadWasFirstSeen) {
  account.set_some_unknown();
  report_losses(1, {50, 100'050}, NOPSPAN_REASON_FILTERED, 100'000);
  expect({.emitted = 100'000, .filtered = 100'000});
}

TEST_F(Account, KnowsWhatTheKernelLostBeforeWhatWasFirstSeen) {
  account.set_some_unknown();
  arrive(1, {103, 110});
  report_losses(1, {100, 103}, NOPSPAN_REASON_FILTERED, 3);
  expect({.emitted = 10, .delivered = 7, .filtered = 3});
}

TEST_F(Account, DoesNotCountWhatTheKernelLostOfWhatWasThereBefore) {
  account.begin_thread(1, 100, 0, now);
  arrive(1, {100, 110});
  report_losses(1, {95, 100}, NOPSPAN_REASON_FILTERED, 5);
  expect({.emitted = 10, .delivered = 10});
}

TEST_F(Account, ForgetsEndedThreads) {
  arrive(1, {0, 4});
  report_losses(1, {4, 6}, NOPSPAN_REASON_RING_FULL, 2);
  account.find(1)->closing_round = 5;
  account.close_ended(5);
  EXPECT_NE(account.find(1), nullptr);
  account.close_ended(6);
  EXPECT_EQ(account.find(1), nullptr);
  report_losses(1, {4, 6}, NOPSPAN_REASON_RING_FULL, 2);  // the kernel repeats the message until it forgets the thread
  EXPECT_EQ(account.find(1), nullptr);
  expect({.emitted = 6, .delivered = 4, .ring_full = 2});
}

// Held entries are fetched repeatedly until the thread flushes them. If the account forgot a thread, its entries would
// be delivered twice.
TEST_F(Account, KeepsEveryThreadThatIsLookedAt) {
  constexpr std::uint64_t kThreads = 16384;
  for (int times = 0; times < 2; ++times) {
    for (std::uint64_t thread = 1; thread <= kThreads; ++thread) arrive(thread, {0, 2});
  }
  expect({.emitted = 2 * kThreads, .delivered = 2 * kThreads});
}

TEST_F(Account, KeepsThreadsThatHoldWhatWasFetchedBeforeAllThatDoNot) {
  constexpr std::uint64_t kThreads = 16384, kOthers = 2 * ProcessAccount::kMostThreads;
  for (std::uint64_t thread = 1; thread <= kThreads; ++thread) {
    arrive(thread, {0, 2});
    account.find(thread)->fetched_next = 2;
  }
  ++now;
  for (std::uint64_t i = 0; i < kOthers; ++i) arrive(1'000'000 + i, {0, 1});
  for (std::uint64_t thread = 1; thread <= kThreads; ++thread) arrive(thread, {0, 3});  // flushed
  expect({.emitted = 3 * kThreads + kOthers, .delivered = 3 * kThreads + kOthers});
}

TEST_F(Account, LooksUponWhatWasHandedOverAsHeldNoMore) {
  arrive(1, {0, 2});
  account.find(1)->fetched_next = 2;
  EXPECT_TRUE(account.find(1)->holds_fetched());
  report_losses(1, {0, 3}, NOPSPAN_REASON_RING_FULL, 3);
  EXPECT_FALSE(account.find(1)->holds_fetched());
}

TEST_F(Account, KeepsABoundedNumberOfThreads) {
  std::uint64_t entries = 0;
  for (std::uint64_t thread = 1; thread < 4 * ProcessAccount::kMostThreads; ++thread) {
    arrive(thread, {0, 2});
    entries += 2;
    ++now;
    ASSERT_LE(account.threads().size(), ProcessAccount::kMostThreads);
  }
  expect({.emitted = entries, .delivered = entries});
  // The account has forgotten the first thread. The thread's earlier entries must not count as missed.
  arrive(1, {2, 3});
  expect({.emitted = entries + 1, .delivered = entries + 1});
  arrive(1, {0, 2});  // and they are not delivered again
  expect({.emitted = entries + 1, .delivered = entries + 1});
}

TEST_F(Account, ClosesEndedThreadsFirstWhenThereAreTooMany) {
  arrive(1, {0, 2});
  ++now;
  for (std::uint64_t thread = 2; account.threads().size() < ProcessAccount::kMostThreads; ++thread) {
    arrive(thread, {0, 1});
    if (thread % 2 == 0) account.find(thread)->closing_round = 1;
  }
  arrive(1'000'000, {0, 1});
  EXPECT_NE(account.find(1), nullptr);
}

TEST_F(Account, DoesNotBelieveSequencesThatNoThreadCanHaveReached) {
  arrive(1, {0, 2});
  arrive(1, {1ULL << 60U, (1ULL << 60U) + 3});
  expect({.emitted = 5, .delivered = 2, .malformed = 3});
  arrive(1, {2, 4});
  expect({.emitted = 7, .delivered = 4, .malformed = 3});
}

TEST_F(Account, BelievesAGapThatTookItsTime) {
  arrive(1, {0, 2});
  now += 10 * kSecond;
  arrive(1, {100'000'000, 100'000'001});
  expect({.emitted = 100'000'001, .delivered = 3, .missed = 99'999'998});
}

TEST_F(Account, DoesNotBelieveThatThreadsWroteMoreThanAllCpusCan) {
  const auto cpus = static_cast<std::uint64_t>(sysconf(_SC_NPROCESSORS_CONF));
  const std::uint64_t most_per_cpu = kSecond / 8;  // the account began a second ago
  for (std::uint64_t thread = 1; thread <= 100 * cpus; ++thread) arrive(thread, {100'000'000, 100'000'001});
  const Counts counts = account.counts();
  EXPECT_TRUE(counts.is_balanced());
  EXPECT_LE(counts.missed, cpus * most_per_cpu + 101 * cpus * NOPSPAN_MOST_ENTRIES);
  EXPECT_EQ(counts.delivered, cpus * most_per_cpu / 100'000'001);
  EXPECT_EQ(counts.delivered + counts.malformed, 100 * cpus);
}

TEST_F(Account, DoesNotBelieveThatMoreWasLostThanAllCpusCanWrite) {
  report_process_losses(NOPSPAN_REASON_RING_FULL, 10);
  report_process_losses(NOPSPAN_REASON_UNREADABLE, UINT64_MAX / 2);
  const Counts counts = account.counts();
  EXPECT_TRUE(counts.is_balanced());
  EXPECT_EQ(counts.ring_full, 10U);
  EXPECT_EQ(counts.unreadable, account.most_until(now));
}

TEST_F(Account, BelievesAllThreadsThatHeldEntriesWhenItBegan) {
  account.set_some_unknown();
  now = kSecond;  // when the account began
  for (std::uint64_t thread = 1; thread <= 10'000; ++thread) arrive(thread, {1000, 1100});
  expect({.emitted = 1'000'000, .delivered = 1'000'000});
}

TEST_F(Account, SaysWhatKilledThreadsMayHaveHeld) {
  arrive(1, {0, 2});
  account.find(1)->capacity = 10 * sizeof(nopspan_entry);
  arrive(2, {0, 2});
  account.find(2)->capacity = 10 * sizeof(nopspan_entry);
  account.find(2)->closing_round = 1;
  account.count_held_by_killed();
  expect({.emitted = 4, .delivered = 4, .held_by_killed = 10});
}

TEST_F(Account, DoesNotBelieveThatABufferHoldsMoreThanABatchCan) {
  arrive(1, {0, 2});
  account.find(1)->capacity = UINT64_MAX;
  account.count_held_by_killed();
  expect({.emitted = 2, .delivered = 2, .held_by_killed = NOPSPAN_MOST_ENTRIES});
}

void add_process(Accounts& accounts, std::uint32_t pid, std::uint64_t threads) {
  auto process = std::make_shared<Process>();
  process->pid = pid;
  ProcessAccount& entries = accounts.add(pid, {ProcessAccount(std::move(process), 0)});
  for (std::uint64_t thread = 1; thread <= threads; ++thread) entries.begin_thread(thread, 0, 0, thread);
}

TEST(Accounts, ClosesThreadsOfTheProcessesThatHaveMost) {
  constexpr std::uint32_t kModest = 5;
  Accounts accounts;
  for (std::uint32_t pid = 1; pid <= 4; ++pid) add_process(accounts, pid, 30'000);
  add_process(accounts, kModest, 8'000);
  accounts.bound_threads();
  EXPECT_EQ(accounts.find(kModest)->threads().size(), 8'000U);
  std::size_t threads = 0;
  for (const auto& [pid, account] : accounts.all()) threads += account.threads().size();
  EXPECT_LE(threads, 98'304U);
  EXPECT_GE(threads, 48'000U);
}

TEST(Accounts, AreFoundByTheKernelsNumber) {
  Accounts accounts;
  add_process(accounts, 1, 0);
  add_process(accounts, 2, 0);
  accounts.set_tgid(1, 101);
  accounts.set_tgid(2, 1);
  EXPECT_EQ(accounts.find_tgid(101), accounts.find(1));
  EXPECT_EQ(accounts.find_tgid(1), accounts.find(2));
  EXPECT_EQ(accounts.find_tgid(2), nullptr);
  // The pid was reused. Until the account is closed, it has both numbers.
  accounts.set_tgid(1, 102);
  EXPECT_EQ(accounts.find(1)->tgid(), 102U);
  EXPECT_EQ(accounts.find_tgid(101), accounts.find(1));
  EXPECT_EQ(accounts.find_tgid(102), accounts.find(1));
  accounts.close(1);
  EXPECT_EQ(accounts.find_tgid(101), nullptr);
  EXPECT_EQ(accounts.find_tgid(102), nullptr);
  EXPECT_EQ(accounts.find_tgid(1), accounts.find(2));
}

TEST(Accounts, AddProcessesThatEndedLongAgoToTheOthers) {
  constexpr std::uint32_t kMost = 1000, kMore = 30;
  Accounts accounts;
  for (std::uint32_t pid = 1; pid <= kMost + kMore; ++pid) {
    add_process(accounts, pid, 0);
    Accounts::Account& entries = *accounts.find(pid);
    entries.delivered(entries.arriving(1, {0, 1}, 0)->ledger.arrive({0, 1}).size());
    accounts.close(pid);
  }
  const Ledger ledger = accounts.ledger();
  ASSERT_EQ(ledger.processes.size(), kMost);
  EXPECT_EQ(ledger.processes.front().process->pid, kMore + 1);
  EXPECT_EQ(ledger.others_processes, kMore);
  EXPECT_EQ(ledger.others.delivered, kMore);
  EXPECT_EQ(ledger.total.delivered, kMost + kMore);
  EXPECT_TRUE(ledger.total.is_balanced());
}

TEST(ThreadLedger, FindsWhatIsNewBetweenWhatIsNot) {
  ThreadLedger thread;
  thread.arrive({2, 4});
  thread.arrive({6, 8});
  EXPECT_THAT(thread.arrive({0, 10}), testing::ElementsAre(Sequences{0, 2}, Sequences{4, 6}, Sequences{8, 10}));
  EXPECT_EQ(thread.missing(), 0);
}

TEST(ThreadLedger, MissesWhatIsKnownToHaveBeenEmitted) {
  ThreadLedger thread;
  thread.arrive({0, 5});
  thread.emitted_until(8);
  EXPECT_EQ(thread.missing(), 3);
  thread.emitted_until(2);
  EXPECT_EQ(thread.missing(), 3);
  EXPECT_THAT(thread.arrive({5, 8}), testing::ElementsAre(Sequences{5, 8}));
  EXPECT_EQ(thread.missing(), 0);
}

TEST(ThreadLedger, GivesTheOldestGapUpWhenThereAreTooMany) {
  ThreadLedger thread;
  for (std::uint64_t i = 0; i < 100; ++i) thread.arrive({i * 4, i * 4 + 1});
  EXPECT_EQ(thread.missing(), 99 * 3);
  EXPECT_THAT(thread.arrive({1, 4}), testing::IsEmpty()) << "it was counted as lost";
  EXPECT_EQ(thread.missing(), 99 * 3);
  EXPECT_THAT(thread.arrive({98 * 4 + 1, 99 * 4}), testing::ElementsAre(Sequences{98 * 4 + 1, 99 * 4}))
      << "a young gap is open";
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
