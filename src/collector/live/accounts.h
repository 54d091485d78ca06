// SPDX-License-Identifier: Apache-2.0
// The accounts of all processes, those that ended too, and the ledger that they make.
#pragma once

#include "live/process_account.h"
#include "model/ledger.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

namespace nopspan::collector {

class Accounts {
 public:
  struct Account {
    ProcessAccount entries;
    std::uint32_t tgid = 0;  // as the kernel's programs number it; 0: not known yet
    std::uint64_t closing_round = 0;
    std::uint64_t cgroup = 0;  // where its last record was made; 0: there was none
  };

  // By the pid in the collector's namespace. Null if there is none.
  Account* find(std::uint32_t pid);
  Account* find_tgid(std::uint32_t tgid);
  Account& add(std::uint32_t pid, Account account);
  [[nodiscard]] std::map<std::uint32_t, Account>& all() { return accounts_; }
  // The process is gone, and all that can come of it has come.
  void close(std::uint32_t pid);

  // Closes streams of those that have most, where they are too many in all.
  void bound_streams();

  // Of processes that are not known.
  void set_others(const Losses& losses) { others_losses_ = losses; }
  [[nodiscard]] Ledger ledger() const;

 private:
  // Of ended processes so many have a row of their own.
  static constexpr std::size_t kMostEnded = 1000;
  // Of all processes.
  static constexpr std::size_t kMostStreams = 65536;

  std::map<std::uint32_t, Account> accounts_;
  std::deque<ProcessLedger> ended_;
  Counts others_;
  std::uint64_t others_processes_ = 0;
  Losses others_losses_{};
};

}  // namespace nopspan::collector
