// SPDX-License-Identifier: Apache-2.0
#include "reader/process_account.h"

#include <nopspan/probes.h>

#include <unistd.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace nopspan::collector {
namespace {

// The shortest time in which a thread can write an entry.
constexpr std::uint64_t kFastestEntryNs = 8;
// The number of threads that can run at the same time.
const auto kCpus = static_cast<std::uint64_t>(std::max(1L, sysconf(_SC_NPROCESSORS_CONF)));

std::uint64_t take(std::uint64_t& from, std::uint64_t at_most) {
  const std::uint64_t taken = std::min(from, at_most);
  from -= taken;
  return taken;
}

}  // namespace

// Explains the missing entries of a thread: first as discarded (by the thread's header), then as lost (by the kernel's
// counts of this thread). The kernel's counts of the process may explain the rest later.
void ProcessAccount::Gaps::add(const Thread& thread) {
  std::uint64_t missing = thread.ledger.missing();
  arrived += thread.ledger.next() - thread.ledger.base() - missing;
  discarded += take(missing, thread.discarded - thread.discarded_base);
  for (std::size_t reason = 0; reason < NOPSPAN_REASONS; ++reason) {
    explained[reason] += take(missing, thread.losses[reason]);
    counted[reason] += thread.losses[reason];
  }
  unexplained += missing;
}

void ProcessAccount::set_moved(const ProcessPointer& process) {
  process_ = process;
  for (auto& [id, thread] : threads_) thread.process = process;
}

void ProcessAccount::begin_thread(std::uint64_t id, std::uint64_t next, std::uint64_t discarded, std::uint64_t now_ns) {
  if (threads_.size() >= kMostThreads) bound_threads(kMostThreads / 4 * 3);
  Thread& thread = threads_[id];
  thread.ledger = ThreadLedger(next);
  thread.process = process_;
  thread.discarded = thread.discarded_base = discarded;
  thread.seen_ns = now_ns;
}

ProcessAccount::Thread* ProcessAccount::find(std::uint64_t id) {
  const auto found = threads_.find(id);
  return found == threads_.end() ? nullptr : &found->second;
}

ProcessAccount::Thread* ProcessAccount::arriving(std::uint64_t id, Sequences sequences, std::uint64_t time_ns) {
  Thread* known = find(id);
  if (known == nullptr) {
    // A thread may have ended before the headers of the process were read.
    const bool is_new = all_are_known_ && time_ns >= attached_ns_;
    begin_thread(id, is_new ? 0 : sequences.first, 0, since_ns_);
    known = find(id);
    known->begins_at_first_arrival = !is_new && !has_forgotten_;
  }
  Thread& thread = *known;
  const std::uint64_t base = thread.ledger.base(), next = thread.ledger.next();
  const std::uint64_t latest = std::max(time_ns, thread.seen_ns);
  const auto are_too_many = [](std::uint64_t entries, std::uint64_t in_ns) {
    return entries > in_ns / kFastestEntryNs + NOPSPAN_MOST_ENTRIES;
  };
  const std::uint64_t added = sequences.next > next ? sequences.next - next : 0;
  // A process may pretend to have any number of threads.
  const bool is_too_late = are_too_many(added, latest - thread.seen_ns) || claimed_ + added > most_until(latest);
  const bool is_too_early = thread.begins_at_first_arrival && sequences.first < base &&
                            are_too_many(base - sequences.first, latest - since_ns_);
  if (is_too_late || is_too_early) {
    malformed_of_no_thread(std::min<std::uint64_t>(sequences.count(), NOPSPAN_MOST_ENTRIES));
    return nullptr;
  }
  // Earlier batches may arrive later, because fetched entries bypass the ring buffer and losses come from a map.
  if (thread.begins_at_first_arrival) thread.ledger.began_at(sequences.first);
  claimed_ += added;
  thread.seen_ns = std::max(thread.seen_ns, time_ns);
  return &thread;
}

// Each thread may hold entries from before this collector began.
std::uint64_t ProcessAccount::most_until(std::uint64_t time_ns) const {
  return (time_ns - since_ns_) / kFastestEntryNs * kCpus + (threads_.size() + 1) * NOPSPAN_MOST_ENTRIES;
}

// The kernel programs count as many entries as the process reports at each hit.
void ProcessAccount::process_losses(std::uint32_t tgid, const Losses& losses, std::uint64_t most) {
  Losses& known = losses_[tgid];
  for (std::size_t reason = 0; reason < NOPSPAN_REASONS; ++reason) {
    known[reason] = std::max(known[reason], take(most, losses[reason]));
  }
}

void ProcessAccount::thread_losses(std::uint64_t id, Sequences sequences, const Losses& losses, std::uint64_t discarded,
                                   std::uint64_t now_ns) {
  Thread* thread = find(id);
  // Losses of a thread whose ledger is closed were counted when it was closed, or are in the process's losses too.
  if (thread != nullptr ? thread->losses == losses && thread->discarded >= discarded : closed_ids_.contains(id)) return;
  const bool is_new = thread == nullptr;
  thread = arriving(id, sequences, now_ns);
  if (thread == nullptr) {
    // Remember the values, so that they are refused only once. The map reports them at each read.
    Thread& refused = *find(id);
    refused.losses = losses;
    refused.discarded = std::max(refused.discarded, discarded);
    return;
  }
  if (is_new && thread->begins_at_first_arrival) thread->discarded_base = discarded;
  thread->ledger.emitted_until(sequences.next);
  thread->losses = losses;
  thread->flushed_next = std::max(thread->flushed_next, sequences.next);
  thread->discarded = std::max(thread->discarded, discarded);
}

void ProcessAccount::begin_library(std::uint64_t gate, const Counts& dropped) {
  if (has_room_for(gate)) libraries_[gate] = dropped;
}

bool ProcessAccount::has_room_for(std::uint64_t gate) const {
  constexpr std::size_t kMostLibraries = 256;
  return libraries_.size() < kMostLibraries || libraries_.contains(gate);
}

// The counts are in memory that the process can write.
void ProcessAccount::library_dropped(std::uint64_t gate, const Counts& dropped, std::uint64_t now_ns) {
  if (!has_room_for(gate)) return;
  const auto [known, is_new] = libraries_.try_emplace(gate);
  Counts& before = known->second;
  if (is_new && !all_are_known_) before = dropped;
  const std::uint64_t most = most_until(now_ns);
  for (const auto count : {&Counts::no_memory, &Counts::over_limit, &Counts::reentrant, &Counts::attributes_dropped,
                           &Counts::links_dropped, &Counts::members_dropped}) {
    // A count that is lower than before is another program's, in the same process.
    const std::uint64_t more = dropped.*count - (dropped.*count < before.*count ? 0 : before.*count);
    dropped_.*count += std::min(more, most - std::min(most, dropped_.*count));
  }
  before = dropped;
}

void ProcessAccount::close(std::unordered_map<std::uint64_t, Thread>::iterator thread) {
  closed_.add(thread->second);
  closed_ids_.insert(thread->first);
  threads_.erase(thread);
}

void ProcessAccount::close_ended(std::uint64_t round) {
  for (auto thread = threads_.begin(); thread != threads_.end();) {
    const auto next = std::next(thread);
    if (thread->second.closing_round != 0 && thread->second.closing_round < round) close(thread);
    thread = next;
  }
}

void ProcessAccount::count_held_by_killed() {
  for (auto& [id, thread] : threads_) {
    if (thread.closing_round == 0) held_by_killed_ += thread.most_held();
  }
}

// Ledgers are closed in this order: of threads that have ended, then of threads that hold no fetched entries, then the
// rest. Within each group the least recently used ledger is closed first.
void ProcessAccount::bound_threads(std::size_t most) {
  if (threads_.size() <= most) return;
  using Iterator = decltype(threads_)::iterator;
  std::vector<Iterator> all;
  for (auto thread = threads_.begin(); thread != threads_.end(); ++thread) all.push_back(thread);
  const auto sooner = [](Iterator a, Iterator b) {
    const auto order = [](const Thread& thread) {
      return std::tuple(thread.closing_round == 0, thread.holds_fetched(), thread.seen_ns);
    };
    return order(a->second) < order(b->second);
  };
  const auto kept = all.end() - static_cast<std::ptrdiff_t>(most);
  std::nth_element(all.begin(), kept, all.end(), sooner);
  std::for_each(all.begin(), kept, [this](Iterator thread) { forget(thread); });
}

// If the thread appears again, its earlier entries are no longer known.
void ProcessAccount::forget(std::unordered_map<std::uint64_t, Thread>::iterator thread) {
  if (thread->second.closing_round == 0) {
    all_are_known_ = false;
    has_forgotten_ = true;
  }
  close(thread);
}

void ProcessAccount::forget_threads(const std::vector<std::uint64_t>& ids) {
  for (const std::uint64_t id : ids) {
    if (const auto thread = threads_.find(id); thread != threads_.end()) forget(thread);
  }
}

Counts ProcessAccount::counts() const {
  Gaps gaps = closed_;
  for (const auto& [id, thread] : threads_) gaps.add(thread);
  Counts counts;
  counts.emitted = gaps.arrived + gaps.discarded + gaps.unexplained + malformed_of_no_thread_;
  Losses lost = gaps.explained;
  for (std::size_t reason = 0; reason < NOPSPAN_REASONS; ++reason) {
    counts.emitted += gaps.explained[reason];
    // Losses that the kernel counted for the process but for no thread, because it could not read the header or the map
    // was full. They may be a gap in a thread's sequence, or all that a thread has emitted.
    std::uint64_t of_process = 0;
    for (const auto& [tgid, losses] : losses_) of_process += losses[reason];
    const std::uint64_t of_no_thread = of_process - std::min(of_process, gaps.counted[reason]);
    lost[reason] += of_no_thread;
    counts.emitted += of_no_thread - take(gaps.unexplained, of_no_thread);
  }
  counts.delivered = delivered_;
  counts.filtered = filtered_ + lost[NOPSPAN_REASON_FILTERED];
  counts.ring_full = lost[NOPSPAN_REASON_RING_FULL];
  counts.unreadable = lost[NOPSPAN_REASON_UNREADABLE];
  counts.too_large = lost[NOPSPAN_REASON_TOO_LARGE];
  counts.malformed = malformed_ + malformed_of_no_thread_ + lost[NOPSPAN_REASON_MALFORMED];
  counts.missed = gaps.unexplained;
  counts.discarded = gaps.discarded;
  counts.held_by_killed = held_by_killed_;
  counts.threads_at_attach = threads_at_attach_;
  counts += dropped_;
  counts.emitted += dropped_.lost();
  return counts;
}

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
