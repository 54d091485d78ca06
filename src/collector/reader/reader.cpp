// SPDX-License-Identifier: Apache-2.0
#include "reader/reader.h"

#include "stream/batch_entries.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <iostream>
#include <set>
#include <utility>

namespace nopspan::collector {

void HeldMessages::hold(std::uint32_t pid, unsigned until, std::uint64_t now_ns) {
  const auto [found, is_new] = processes_.try_emplace(pid);
  if (is_new) found->second.since_ns = now_ns;
  found->second.until |= until;
}

bool HeldMessages::add(const nopspan_message& message, std::string_view bytes) {
  const std::size_t size = sizeof(Message) + bytes.size();
  Process& process = processes_.at(message.pid);
  if (process.bytes + size > kMostBytesOfProcess || bytes_ + size > kMostBytes) return false;
  process.bytes += size;
  bytes_ += size;
  process.messages.push_back({message, std::string(bytes)});
  return true;
}

void HeldMessages::happened(std::uint32_t pid, Until until) {
  if (const auto found = processes_.find(pid); found != processes_.end()) found->second.until &= ~unsigned{until};
}

void HeldMessages::happened(Until until) {
  for (auto& [pid, process] : processes_) process.until &= ~unsigned{until};
}

std::vector<HeldMessages::Released> HeldMessages::take_due(std::uint64_t now_ns) {
  std::vector<std::uint32_t> due;
  for (const auto& [pid, process] : processes_) {
    if (process.until == 0 || now_ns - process.since_ns >= kLongest) due.push_back(pid);
  }
  std::vector<Released> released;
  released.reserve(due.size());
  for (const std::uint32_t pid : due) released.push_back(take(pid));
  return released;
}

HeldMessages::Released HeldMessages::take(std::uint32_t pid) {
  auto process = processes_.extract(pid);
  if (process.empty()) return {pid, 0, {}};
  bytes_ -= process.mapped().bytes;
  return {pid, process.mapped().until, std::move(process.mapped().messages)};
}

namespace {

// Whether one of the threads had emitted entries before the first of these messages of it.
bool has_earlier(const HeldMessages::Released& released) {
  std::set<std::uint64_t> threads;
  return std::any_of(released.messages.begin(), released.messages.end(), [&](const HeldMessages::Message& one) {
    return (one.message.flags & NOPSPAN_MESSAGE_GONE) == 0 && threads.insert(one.message.sequence_id).second &&
           one.message.first != 0;
  });
}

// Calls on_entry() for each entry of a batch of these `sequences` that is also among the `fresh` ones. `entry` is then
// set. Returns how many fresh entries are malformed or missing in the batch.
template <class OnEntry>
std::uint64_t read_fresh(BatchReader& reader, Sequences sequences, const std::vector<Sequences>& fresh, Entry& entry,
                         const OnEntry& on_entry) {
  std::uint64_t malformed = 0;
  auto part = fresh.begin();
  std::uint64_t next_unread = sequences.first;
  const auto is_fresh = [&](std::uint64_t sequence) {
    while (part != fresh.end() && sequence >= part->next) ++part;
    return part != fresh.end() && sequence >= part->first;
  };
  for (;;) {
    const BatchReader::Outcome outcome = reader.next(entry);
    if (outcome == BatchReader::Outcome::end) break;
    entry.sequence = next_unread++;
    if (!is_fresh(entry.sequence)) continue;
    if (outcome == BatchReader::Outcome::entry) {
      on_entry();
    } else {
      ++malformed;
    }
  }
  for (; part != fresh.end(); ++part) malformed += part->next - std::clamp(next_unread, part->first, part->next);
  return malformed;
}

}  // namespace

void Reader::on_start(const TracerStart& start) {
  start_ = start;
  has_started_ = true;
  clocks_ = ClockSamples(start.clock);
  now_ns_ = start.clock.monotonic_ns;
}

void Reader::on_text(std::string_view text) { std::cerr << text; }

void Reader::abandon() {
  if (!is_live_) return;
  on_mark(Mark::detached, now_ns_);
  on_mark(Mark::tick, now_ns_);
}

Ledger Reader::ledger() const {
  Ledger ledger = accounts_.ledger();
  ledger.add_unattached(state_.unattached);
  return ledger;
}

void Reader::set_sink(Sink* sink, std::function<void()> on_live) {
  sink_ = sink;
  batches_ = sink->batches();
  on_live_ = std::move(on_live);
}

Reader::Account& Reader::account(std::uint32_t pid, std::uint32_t tgid) {
  if (start_.same_numbers) tgid = pid;
  Account* known = accounts_.find(pid);
  if (known == nullptr) {
    Process process = start_.unknown;
    process.pid = process.namespace_pid = pid;
    known = &accounts_.add(
        pid, ProcessAccount(std::make_shared<const Process>(std::move(process)), start_.clock.monotonic_ns));
  }
  if (tgid != 0) accounts_.set_tgid(pid, tgid);
  return *known;
}

void Reader::on_process(const Described& described) {
  const ProcessPointer& process = described.process;
  Account& account = this->account(described.pid);
  const ProcessPointer& before = account.process();
  if (process->start_ticks == 0) {
    account.is_gone = true;
  } else if (before->start_ticks != 0 && before->start_ticks != process->start_ticks) {
    account.successor = process;
  } else if (before->start_ticks == 0 || before->executable == process->executable) {
    account.set_moved(process);
  } else {
    account.set_process(process);
  }
  if (described.has_begun) {
    account.set_some_unknown();
    account.attached(now_ns_, 0);
  }
  // A process that emits has a library. Without one it was not examined yet, so its service is not known.
  if (account.is_gone || !process->library.empty()) held_.happened(described.pid, HeldMessages::described);
}

void Reader::on_begun(const Begun& begun) {
  Account& account = this->account(begun.pid);
  if (!begun.are_all_known) account.set_some_unknown();
  account.attached(begun.time_ns, begun.running_threads);
  if (begun.gate_address != 0) account.begin_library(begun.gate_address, begun.dropped);
  for (const Begun::Thread& thread : begun.threads) {
    if (account.find(thread.sequence_id) == nullptr)
      account.begin_thread(thread.sequence_id, thread.next, thread.discarded, begun.time_ns);
  }
}

void Reader::on_mark(Mark mark, std::uint64_t time_ns) {
  now_ns_ = std::max(now_ns_, time_ns);
  switch (mark) {
    case Mark::attaching:
      is_attaching_ = true;
      break;
    case Mark::settled:
      is_attaching_ = false;
      held_.happened(HeldMessages::begun);
      break;
    case Mark::live:  // what waits for Begun too is released when it is settled
      return go_live();
    case Mark::tick:
      release_due();
      if (is_live_) sink_->on_tick(clocks_.to_unix(time_ns));
      break;
    case Mark::round:
      end_round();
      break;
    case Mark::detach_begins:
      detaching_since_ns_ = time_ns;
      break;
    case Mark::detached:  // what is fetched may have been written after it
      is_detached_ = true;
      for (const HeldMessages::Released& released : held_.take_due(UINT64_MAX)) release(released);
      detaching_since_ns_ = 0;
      break;
    case Mark::ended:
      ended_ns_ = time_ns;
      break;
    case Mark::counting_only:
      is_counting_only_ = true;
      break;
    case Mark::last_lost_held:
      for (auto& [pid, account] : accounts_.all()) {
        if (account.is_gone) account.count_held_by_killed();
      }
      break;
    case Mark::time:
    case Mark::last:
      break;
  }
  release_due();
}

void Reader::on_batch(const nopspan_message& message, std::string_view bytes) {
  now_ns_ = std::max<std::uint64_t>(now_ns_, message.time_ns);
  if (const unsigned until = why_hold(message); until != 0) held_.hold(message.pid, until, message.time_ns);
  if (message.kind == NOPSPAN_MESSAGE_EXEC) return;
  if (!held_.holds(message.pid)) return deliver(message, bytes);
  if (held_.add(message, bytes)) return;
  go_live();
  release(held_.take(message.pid));
  deliver(message, bytes);
}

unsigned Reader::why_hold(const nopspan_message& message) {
  Account* account = accounts_.find(message.pid);
  if (message.kind == NOPSPAN_MESSAGE_EXEC) return account != nullptr ? unsigned{HeldMessages::described} : 0;
  if (held_.holds(message.pid) || is_detached_) return 0;
  const unsigned begun = is_attaching_ ? unsigned{HeldMessages::begun} : 0;
  const unsigned live = is_live_ ? 0U : unsigned{HeldMessages::live} | HeldMessages::begun;
  if (account == nullptr) return live | begun | HeldMessages::described;
  if (live != 0) return live;
  if (account->cgroup != message.cgroup) return HeldMessages::described;
  const bool is_new = (message.flags & NOPSPAN_MESSAGE_GONE) == 0 && account->find(message.sequence_id) == nullptr;
  return is_new ? begun : 0;
}

void Reader::release_due() {
  if (!is_live_) return;
  for (const HeldMessages::Released& released : held_.take_due(now_ns_)) release(released);
}

// The first tick comes before any span: the sink needs the current time, and a span may have any time.
void Reader::go_live() {
  if (std::exchange(is_live_, true)) return;
  on_live_();
  sink_->on_tick(clocks_.to_unix(now_ns_));
  held_.happened(HeldMessages::live);
}

void Reader::on_losses(const AllLosses& losses) {
  for (const ProcessLosses& one : losses.processes) {
    Account* account = accounts_.find_tgid(one.tgid);
    if (account == nullptr) account = &this->account(one.pid, one.tgid);
    account->process_losses(one.tgid, one.losses, account->most_until(losses.time_ns));
  }
  for (const auto& [key, one] : losses.threads) {
    Account* account = accounts_.find_tgid(static_cast<std::uint32_t>(key.tgid));
    if (account == nullptr) continue;
    account->thread_losses(key.sequence_id, {one.first, one.next}, std::to_array(one.entries), one.discarded,
                           losses.time_ns);
  }
  accounts_.set_others(losses.others);
}

void Reader::on_closed(const Closed& closed) {
  if (held_.holds(closed.pid)) release(held_.take(closed.pid));
  Account* account = accounts_.find(closed.pid);
  if (account == nullptr) return;
  if (closed.lost_held) account->count_held_by_killed();
  // If the pid was reused, the first entries of the new process were counted in the old account.
  const bool is_reused = closed.is_reused || account->successor || account->tgids.size() > 1;
  accounts_.close(closed.pid);
  if (is_reused) this->account(closed.pid).set_some_unknown();
}

void Reader::on_forgotten(const ForgottenThreads& forgotten) {
  if (Account* account = accounts_.find(forgotten.pid)) account->forget_threads(forgotten.sequence_ids);
}

void Reader::on_dropped(const LibraryDropped& dropped) {
  account(dropped.pid).library_dropped(dropped.gate_address, dropped.dropped, dropped.time_ns);
}

void Reader::deliver(const nopspan_message& message, std::string_view bytes) {
  if (message.time_ns >= ended_ns_) return;
  Account& account = this->account(message.pid, message.tgid);
  account.cgroup = message.cgroup;
  // The process is gone already, or could not be examined in time.
  if (account.process()->comm.empty()) {
    const std::string_view comm(message.comm, strnlen(message.comm, sizeof(message.comm)));
    account.set_moved(with_comm(account.process(), comm));
  }
  ProcessAccount::Thread* thread = nullptr;
  const bool is_held = message.kind != NOPSPAN_MESSAGE_BATCH;
  if ((message.flags & NOPSPAN_MESSAGE_GONE) == 0 &&
      !(is_held && is_after_the_end(account, message.sequence_id, message.first, message.time_ns))) {
    const Batch batch{message.sequence_id, {message.first, message.next},
                      message.discarded,   message.capacity,
                      message.header,      message.thread_id,
                      message.time_ns};
    thread = take(account, batch, bytes);
  }
  if (is_held) {
    end_thread(account, message, thread);
  } else if (thread != nullptr) {
    thread->tid = message.tid;
    thread->closing_round = 0;
    thread->flushed_next = std::max<std::uint64_t>(thread->flushed_next, message.next);
  }
}

void Reader::release(const HeldMessages::Released& released) {
  // Without Begun, entries from before the attach are delivered too. Earlier ones of the same requests may be missing.
  Account& account = this->account(released.pid);
  if ((released.missing & HeldMessages::begun) != 0) {
    account.set_some_unknown();
    account.attached(now_ns_, 0);
  }
  // There is no Begun of a process that ended during an attach. Another collector may have received earlier entries.
  if (!released.messages.empty() && !account.has_begun()) {
    const std::uint64_t first = released.messages.front().message.time_ns;
    const auto ticks = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
    // The start of a process that ended before it was examined is not known. Then its threads' sequences tell.
    const std::uint64_t known_start = account.process()->start_ticks * (kSecond / ticks);
    const bool may_be_early = known_start != 0 ? attach_times_.overlap(known_start, first)
                                               : attach_times_.overlap(first, first) || has_earlier(released);
    if (may_be_early && account.is_gone) account.attached(released.messages.back().message.time_ns + 1, 0);
  }
  for (const HeldMessages::Message& one : released.messages) deliver(one.message, one.bytes);
}

void Reader::end_thread(Account& account, const nopspan_message& message, ProcessAccount::Thread* thread) const {
  if (thread != nullptr) {
    // A header may be reused by another thread before its former owner has ended completely.
    if (thread->tid == 0 || thread->tid == message.tid) thread->closing_round = round_;
    return;
  }
  // The kernel had freed the thread's memory. The address of its header shows which thread held it.
  for (auto& [id, known] : account.threads()) {
    if (known.header != message.header || known.closing_round != 0) continue;
    known.closing_round = round_;
    account.held_by_killed(known.most_held());
    return;
  }
}

bool Reader::is_after_the_end(Account& account, std::uint64_t sequence_id, std::uint64_t first,
                              std::uint64_t time_ns) const {
  if (time_ns < detaching_since_ns_) return false;
  const ProcessAccount::Thread* known = account.find(sequence_id);
  return known == nullptr || first > known->ledger.next();
}

ProcessAccount::Thread* Reader::take(Account& account, const Batch& batch, std::string_view bytes) {
  ProcessAccount::Thread* thread = account.arriving(batch.sequence_id, batch.sequences, batch.time_ns);
  if (thread == nullptr) return nullptr;
  thread->header = batch.header;
  thread->capacity = batch.capacity;
  thread->note_discarded(batch.sequences.first, batch.discarded);
  // A message has no bytes in two cases: it announces a header, or the thread was stopped after it flushed and before
  // it updated its header.
  if (bytes.empty() || is_counting_only_) {
    thread->ledger.emitted_until(batch.sequences.next);
  } else {
    deliver(account, *thread, batch, bytes);
  }
  return thread;
}

void Reader::deliver(ProcessAccount& account, ProcessAccount::Thread& thread, const Batch& batch,
                     std::string_view bytes) {
  const std::vector<Sequences>& fresh = thread.ledger.arrive(batch.sequences);
  if (fresh.empty() || (batches_ != nullptr && pass_whole(account, thread, batch, bytes, fresh))) return;
  BatchReader reader(bytes, batch.sequences.count(), clocks_, thread.process->clock_offset_ns);
  Entry entry;
  entry.thread_id = batch.thread_id;
  entry.sequence_id = batch.sequence_id;
  entry.process = &thread.process;
  const std::uint64_t malformed = read_fresh(reader, batch.sequences, fresh, entry, [&] {
    entry.before_attach = is_before_attach(account, reader);
    if (!filter_.may_want_request_of(entry)) return account.filtered(1);
    account.delivered(1);
    sink_->on_entry(entry);
  });
  account.malformed(malformed);
}

bool Reader::is_before_attach(const ProcessAccount& account, const BatchReader& reader) const {
  return account.began_before_attach(reader.start_ns()) || attach_times_.overlap(reader.start_ns(), reader.end_ns());
}

// Returns false if single entries must be passed on instead.
bool Reader::pass_whole(ProcessAccount& account, const ProcessAccount::Thread& thread, const Batch& batch,
                        std::string_view bytes, const std::vector<Sequences>& fresh) {
  // A part of it may have been fetched before.
  if (fresh.size() != 1 || fresh[0].first != batch.sequences.first || fresh[0].next != batch.sequences.next)
    return false;
  BatchReader reader(bytes, batch.sequences.count(), clocks_, thread.process->clock_offset_ns);
  Entry entry;
  entry.process = &thread.process;
  EntryCounts counts;
  bool wants_all = true;
  const std::uint64_t malformed = read_fresh(reader, batch.sequences, fresh, entry, [&] {
    wants_all = wants_all && filter_.may_want_request_of(entry) && !is_before_attach(account, reader);
    ++counts[entry.kind];
  });
  if (malformed > 0 || !wants_all) return false;
  const std::uint64_t entries = fresh[0].count();
  account.delivered(entries);
  batches_->on_batch({&thread.process, batch.thread_id, batch.sequence_id, batch.sequences.first,
                      static_cast<std::uint32_t>(entries), bytes, &clocks_, counts});
  return true;
}

void Reader::on_held(const Held& held) {
  const nopspan_thread& header = held.header;
  const bool is_discarded = held.what == Held::What::discarded;
  if (is_discarded && held.time_ns >= detaching_since_ns_) return;
  Account& account = this->account(held.pid);
  if (is_discarded) return take_discarded(account, held);
  if (is_after_the_end(account, header.sequence_id, header.first, held.time_ns)) return;
  if (held.what == Held::What::fetched) return take_fetched(account, held);
  ProcessAccount::Thread* thread = account.arriving(header.sequence_id, {header.first, header.next}, held.time_ns);
  if (thread != nullptr) thread->ledger.emitted_until(header.next);
}

void Reader::take_fetched(Account& account, const Held& held) {
  const nopspan_thread& header = held.header;
  // The header may have been read while the thread was adding its last entry.
  const std::uint64_t whole = whole_entries(held.bytes, header.next - header.first);
  const Batch batch{header.sequence_id, {header.first, header.first + whole},
                    header.discarded,   header.capacity,
                    held.address,       header.thread_id,
                    held.time_ns};
  if (ProcessAccount::Thread* thread = take(account, batch, held.bytes)) thread->fetched_next = batch.sequences.next;
}

void Reader::take_discarded(Account& account, const Held& held) {
  const nopspan_thread& header = held.header;
  const ProcessAccount::Thread* known = account.find(header.sequence_id);
  if (known != nullptr && header.discarded <= known->discarded) return;
  ProcessAccount::Thread* thread = account.arriving(header.sequence_id, {header.first, header.first}, held.time_ns);
  if (thread == nullptr) return;
  thread->note_discarded(header.first, header.discarded);
  thread->ledger.emitted_until(header.first);
}

// After one full round, everything that was fetched from a thread before it ended has been delivered.
void Reader::end_round() {
  ++round_;
  for (auto& [pid, account] : accounts_.all()) {
    account.forget_closed();
    account.close_ended(round_ - 1);
  }
  accounts_.bound_threads();
}

}  // namespace nopspan::collector
