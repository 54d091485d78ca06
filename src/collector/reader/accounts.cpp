// SPDX-License-Identifier: Apache-2.0
#include "reader/accounts.h"

#include <algorithm>
#include <utility>

namespace nopspan::collector {

Accounts::Account* Accounts::find(std::uint32_t pid) {
  const auto found = accounts_.find(pid);
  return found == accounts_.end() ? nullptr : &found->second;
}

Accounts::Account* Accounts::find_tgid(std::uint32_t tgid) {
  const auto pid = pids_.find(tgid);
  return pid == pids_.end() ? nullptr : find(pid->second);
}

void Accounts::set_tgid(std::uint32_t pid, std::uint32_t tgid) {
  Account& account = accounts_.at(pid);
  if (account.tgid() == tgid) return;
  std::erase(account.tgids, tgid);
  account.tgids.push_back(tgid);
  pids_[tgid] = pid;
}

Accounts::Account& Accounts::add(std::uint32_t pid, ProcessAccount account) {
  return accounts_.insert_or_assign(pid, Account(std::move(account))).first->second;
}

void Accounts::close(std::uint32_t pid) {
  const auto found = accounts_.find(pid);
  if (found == accounts_.end()) return;
  const Counts counts = found->second.counts();
  if (!counts.empty()) ended_.push_back({found->second.process(), counts});
  for (const std::uint32_t tgid : found->second.tgids) {
    if (find_tgid(tgid) == &found->second) pids_.erase(tgid);
  }
  accounts_.erase(found);
  if (ended_.size() <= kMostEnded) return;
  others_ += ended_.front().counts;
  ++others_processes_;
  ended_.pop_front();
}

void Accounts::bound_threads() {
  std::size_t threads = 0;
  for (const auto& [pid, account] : accounts_) threads += account.threads().size();
  const auto has_fewer = [](const auto& a, const auto& b) {
    return a.second.threads().size() < b.second.threads().size();
  };
  while (threads > kMostThreads) {
    ProcessAccount& largest = std::max_element(accounts_.begin(), accounts_.end(), has_fewer)->second;
    const std::size_t before = largest.threads().size();
    largest.bound_threads(before / 2);
    threads -= before - largest.threads().size();
  }
}

Ledger Accounts::ledger() const {
  Ledger ledger;
  ledger.processes.assign(ended_.begin(), ended_.end());
  for (const auto& [pid, account] : accounts_) {
    const Counts counts = account.counts();
    if (!counts.empty()) ledger.processes.push_back({account.process(), counts});
  }
  ledger.others = others_;
  ledger.others_processes = others_processes_;
  ProcessAccount lost(nullptr, 0);
  lost.process_losses(0, others_losses_);
  ledger.others += lost.counts();
  ledger.total = ledger.others;
  for (const ProcessLedger& process : ledger.processes) ledger.total += process.counts;
  return ledger;
}

}  // namespace nopspan::collector
