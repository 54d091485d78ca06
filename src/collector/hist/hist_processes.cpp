// SPDX-License-Identifier: Apache-2.0
#include "hist/hist_processes.h"

#include <utility>

namespace nopspan::collector {

void HistProcesses::look_at(const HistHits& hits, const Facts& facts) {
  unknown_ = hits.others;
  unknown_processes_ = 0;
  for (const HistHits::OfProcess& one : hits.processes) {
    if (one.pid == 0) {
      unknown_ += one.counts;
      ++unknown_processes_;
      continue;
    }
    ProcessPointer process = facts(one.pid);
    if (process->command.empty()) process = with_command(process, one.command);
    const auto [found, is_new] = known_.try_emplace(one.tgid);
    Known& known = found->second;
    const bool is_alive = process->start_ticks != 0;
    if (is_new) {
      known.process = std::move(process);
    } else if (is_alive) {
      if (process->start_ticks != known.process->start_ticks) end(known);
      known.process = std::move(process);
    }
    known.now = one.counts;
  }
}

Counts HistProcesses::own_counts(const Known& known) {
  Counts counts = known.now;
  return counts -= known.before;
}

void HistProcesses::end(Known& known) {
  const Counts counts = own_counts(known);
  known.before = known.now;
  if (counts.empty()) return;
  ended_.push_back({known.process, counts});
  if (ended_.size() <= kMostEnded) return;
  forgotten_ += ended_.front().counts;
  ++forgotten_processes_;
  ended_.pop_front();
}

Ledger HistProcesses::ledger() const {
  Ledger ledger;
  ledger.processes.assign(ended_.begin(), ended_.end());
  for (const auto& [tgid, known] : known_) {
    const Counts counts = own_counts(known);
    if (!counts.empty()) ledger.processes.push_back({known.process, counts});
  }
  ledger.others = unknown_;
  ledger.others += forgotten_;
  ledger.others_processes = unknown_processes_ + forgotten_processes_;
  ledger.total = ledger.others;
  for (const ProcessLedger& one : ledger.processes) ledger.total += one.counts;
  return ledger;
}

}  // namespace nopspan::collector
