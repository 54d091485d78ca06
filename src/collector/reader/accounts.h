// SPDX-License-Identifier: Apache-2.0
// Keeps the accounts of all processes, including ended ones, and makes the ledger from them.
#pragma once

#include "model/ledger.h"
#include "reader/process_account.h"

#include <cstdint>
#include <deque>
#include <map>
#include <unordered_map>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Accounts {
 public:
  struct Account : ProcessAccount {
    explicit Account(ProcessAccount account) : ProcessAccount(std::move(account)) {}

    // The kernel programs' number of the process; 0 if it is not known yet.
    [[nodiscard]] std::uint32_t tgid() const { return tgids.empty() ? 0 : tgids.back(); }

    // Set by set_tgid(). There are several if the pid was reused, because processes of a pid namespace can have the
    // same pid and different numbers in the kernel. All their losses belong to this account.
    std::vector<std::uint32_t> tgids;
    bool is_gone = false;      // the process was found to have ended
    std::uint64_t cgroup = 0;  // the cgroup of its last message; 0 if there was none
    ProcessPointer successor;  // the process that has the same pid now; null if there is none
  };

  // Finds an account by the pid in the collector's namespace. Null if there is none.
  Account* find(std::uint32_t pid);
  Account* find_tgid(std::uint32_t tgid);
  void set_tgid(std::uint32_t pid, std::uint32_t tgid);
  Account& add(std::uint32_t pid, ProcessAccount account);
  [[nodiscard]] std::map<std::uint32_t, Account>& all() { return accounts_; }
  // Closes the account of a process that is gone. No more messages of it can arrive.
  void close(std::uint32_t pid);

  // If there are more than kMostThreads threads, closes the ledgers of threads of the processes that have the most.
  void bound_threads();

  // Sets the losses of processes that have no account.
  void set_others(const Losses& losses) { others_losses_ = losses; }
  [[nodiscard]] Ledger ledger() const;

 private:
  // The number of ended processes with a row of their own. Older ones are added to `others_`.
  static constexpr std::size_t kMostEnded = 1000;
  // The limit for all processes together. A tracer reports which threads it forgets beyond a lower limit.
  static constexpr std::size_t kMostThreads = 98304;

  std::map<std::uint32_t, Account> accounts_;
  std::unordered_map<std::uint32_t, std::uint32_t> pids_;  // by tgid
  std::deque<ProcessLedger> ended_;
  Counts others_;
  std::uint64_t others_processes_ = 0;
  Losses others_losses_{};
};

}  // namespace nopspan::collector
