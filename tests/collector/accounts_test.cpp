// SPDX-License-Identifier: Apache-2.0
// The accounts of all processes: who has one, and when it is closed.
#include "reader/accounts.h"

#include <gtest/gtest.h>

#include <memory>
#include <utility>

namespace nopspan::collector {
namespace {

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

}  // namespace
}  // namespace nopspan::collector
