// SPDX-License-Identifier: Apache-2.0
#include "recording/recorder_stream.h"

#include "base/failure.h"
#include "base/unix_socket.h"

#include <algorithm>
#include <cerrno>

namespace nopspan::collector {
namespace {

constexpr std::chrono::milliseconds kFirstPause{100}, kLongestPause{2000};

// A process without a known start cannot be found in another ledger, so its counts are among those of the others.
Ledger of_known_processes(Ledger ledger) {
  std::erase_if(ledger.processes, [&](const ProcessLedger& one) {
    if (one.process != nullptr && one.process->start_ticks != 0) return false;
    ledger.others += one.counts;
    ++ledger.others_processes;
    return true;
  });
  return ledger;
}

}  // namespace

RecorderStream::RecorderStream(const std::string& target) : path_(target.substr(kPrefix.size())) {
  if (!unix_address(path_)) throw Failure(path_problem(target), Failure::kUsageError);
}

OpenFile RecorderStream::connect() {
  const Clock::time_point now = Clock::now();
  if (now < next_) return {};
  if (OpenFile made = connect_to(*unix_address(path_), SOCK_NONBLOCK)) {
    pause_ = {};
    return made;
  }
  error_ = errno;
  pause_ = std::clamp(2 * pause_, kFirstPause, kLongestPause);
  next_ = now + pause_;
  return {};
}

void RecorderStream::note_written(const std::vector<EntryShare>& shares) {
  for (const EntryShare& share : shares) {
    Counts& counts = reported_.of(share.process->start_ticks != 0 ? share.process : nullptr);
    counts.emitted += share.entries;
    counts.delivered += share.entries;
  }
}

void RecorderStream::note_ledger(const Ledger& ledger) {
  reported_ = LedgerSum();
  reported_.add(of_known_processes(ledger));
}

Ledger RecorderStream::less_reported(const Ledger& ledger) const {
  const Ledger now = of_known_processes(ledger);
  LedgerSum before = before_;
  before.keep_listed(now);
  const Ledger reported = before.ledger();
  LedgerSum rest;
  rest.add(now);
  for (const ProcessLedger& one : reported.processes) rest.of(one.process) -= one.counts;
  rest.of(nullptr) -= reported.others;
  Ledger result = rest.ledger();
  result.damage = ledger.damage;
  result.add_unattached(ledger);
  return result;
}

}  // namespace nopspan::collector
