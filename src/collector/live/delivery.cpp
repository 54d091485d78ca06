// SPDX-License-Identifier: Apache-2.0
#include "live/delivery.h"

#include "host/process_facts.h"
#include "live/fresh_entries.h"

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

namespace nopspan::collector {
namespace {

// Whether one of the threads had emitted entries before the first of these messages of it.
bool has_earlier(const HeldMessages::Released& released) {
  std::set<std::uint64_t> threads;
  return std::any_of(released.messages.begin(), released.messages.end(), [&](const HeldMessages::Message& one) {
    return (one.message.flags & NOPSPAN_MESSAGE_GONE) == 0 && threads.insert(one.message.sequence_id).second &&
           one.message.first != 0;
  });
}

}  // namespace

Delivery::Delivery(const Filter& filter, const ClockMap& clocks, AttachTimes& attach_times, bool same_numbers)
    : filter_(filter),
      clocks_(clocks),
      attach_times_(attach_times),
      same_numbers_(same_numbers),
      began_ns_(clocks.monotonic_now()) {}

Delivery::Account& Delivery::account(std::uint32_t pid, std::uint32_t tgid) {
  if (same_numbers_) tgid = pid;
  Account* known = accounts_.find(pid);
  if (known == nullptr) {
    known = &accounts_.add(pid, ProcessAccount(std::make_shared<Process>(unknown_process(pid)), began_ns_));
  }
  if (tgid != 0) accounts_.set_tgid(pid, tgid);
  return *known;
}

void Delivery::describe(const Described& described) {
  const ProcessPointer& process = described.process;
  Account& account = this->account(described.pid);
  const ProcessPointer& before = account.process();
  if (process->start_ticks == 0) return;  // it is gone
  if (before->start_ticks != 0 && before->start_ticks != process->start_ticks) {
    account.successor = process;
  } else if (before->start_ticks == 0 || before->executable == process->executable) {
    account.set_moved(process);
  } else {
    account.set_process(process);
  }
}

void Delivery::on_message(const nopspan_message& message, std::string_view bytes) {
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

void Delivery::release(const HeldMessages::Released& released) {
  // Without Begun, entries from before the attach are delivered too. Earlier ones of the same requests may be missing.
  Account& account = this->account(released.pid);
  if ((released.missing & HeldMessages::begun) != 0) {
    account.set_some_unknown();
    account.attached(clocks_.monotonic_now(), 0);
  }
  // There is no Begun of a process that ended during an attach. Another collector may have received earlier entries.
  if (!released.messages.empty() && !account.has_begun()) {
    const std::uint64_t first = released.messages.front().message.time_ns;
    const auto ticks = static_cast<std::uint64_t>(sysconf(_SC_CLK_TCK));
    // The start of a process that ended before it was examined is not known. Then its threads' sequences tell.
    const std::uint64_t known_start = account.process()->start_ticks * (kSecond / ticks);
    const bool may_be_early = known_start != 0 ? attach_times_.overlap(known_start, first)
                                               : attach_times_.overlap(first, first) || has_earlier(released);
    const auto has_ended = [&released] {
      const auto state = process_state(released.pid);
      return !state || !state->has_memory();
    };
    if (may_be_early && has_ended()) account.attached(released.messages.back().message.time_ns + 1, 0);
  }
  for (const HeldMessages::Message& one : released.messages) on_message(one.message, one.bytes);
}

void Delivery::deliver_entry(ProcessAccount& account, const Entry& entry) {
  if (filter_.may_want_request_of(entry)) {
    account.delivered(1);
    sink_->on_entry(entry);
  } else {
    account.filtered(1);
  }
}

void Delivery::end_thread(Account& account, const nopspan_message& message, ProcessAccount::Thread* thread) const {
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

bool Delivery::is_after_the_end(Account& account, std::uint64_t sequence_id, std::uint64_t first,
                                std::uint64_t time_ns) const {
  if (time_ns < detaching_since_ns_) return false;
  const ProcessAccount::Thread* known = account.find(sequence_id);
  return known == nullptr || first > known->ledger.next();
}

ProcessAccount::Thread* Delivery::take(Account& account, const Batch& batch, std::string_view bytes) {
  ProcessAccount::Thread* thread = account.arriving(batch.sequence_id, batch.sequences, batch.time_ns);
  if (thread == nullptr) return nullptr;
  thread->header = batch.header;
  thread->capacity = batch.capacity;
  thread->note_discarded(batch.sequences.first, batch.discarded);
  thread->held_since_ns = 0;
  // A message has no bytes in two cases: it announces a header, or the thread was stopped after it flushed and before
  // it updated its header.
  if (bytes.empty() || is_counting_only_) {
    thread->ledger.emitted_until(batch.sequences.next);
  } else {
    deliver(account, *thread, batch, bytes);
  }
  return thread;
}

void Delivery::deliver(ProcessAccount& account, ProcessAccount::Thread& thread, const Batch& batch,
                       std::string_view bytes) {
  const std::vector<Sequences>& fresh = thread.ledger.arrive(batch.sequences);
  if (fresh.empty()) return;
  BatchReader reader(bytes, batch.sequences.count(), clocks_, thread.process->clock_offset_ns);
  Entry entry;
  entry.thread_id = batch.thread_id;
  entry.sequence_id = batch.sequence_id;
  entry.process = &thread.process;
  const std::uint64_t malformed = read_fresh(reader, batch.sequences, fresh, entry, [&] {
    entry.before_attach =
        account.began_before_attach(reader.start_ns()) || attach_times_.overlap(reader.start_ns(), reader.end_ns());
    deliver_entry(account, entry);
  });
  account.malformed(malformed);
}

void Delivery::fetched(Account& account, const nopspan_thread& header, std::uint64_t address, std::string_view bytes,
                       std::uint64_t now_ns) {
  // The header may have been read while the thread was adding its last entry.
  const std::uint64_t whole = BatchReader::whole_entries(bytes, header.next - header.first);
  const Batch batch{header.sequence_id,
                    {header.first, header.first + whole},
                    header.discarded,
                    header.capacity,
                    address,
                    header.thread_id,
                    now_ns};
  if (is_after_the_end(account, header.sequence_id, header.first, now_ns)) return;
  if (ProcessAccount::Thread* thread = take(account, batch, bytes)) thread->fetched_next = batch.sequences.next;
}

void Delivery::not_fetched(Account& account, const nopspan_thread& header, std::uint64_t now_ns) const {
  if (is_after_the_end(account, header.sequence_id, header.first, now_ns)) return;
  ProcessAccount::Thread* thread = account.arriving(header.sequence_id, {header.first, header.next}, now_ns);
  if (thread != nullptr) thread->ledger.emitted_until(header.next);
}

void Delivery::note_discarded(Account& account, const nopspan_thread& header, std::uint64_t now_ns) const {
  if (now_ns >= detaching_since_ns_ || header.discarded == 0) return;
  const ProcessAccount::Thread* known = account.find(header.sequence_id);
  if (known != nullptr && header.discarded <= known->discarded) return;
  ProcessAccount::Thread* thread = account.arriving(header.sequence_id, {header.first, header.first}, now_ns);
  if (thread == nullptr) return;
  thread->note_discarded(header.first, header.discarded);
  thread->ledger.emitted_until(header.first);
}

// After one full round, everything that was fetched from a thread before it ended has been delivered.
void Delivery::next_round() {
  ++round_;
  for (auto& [pid, account] : accounts_.all()) account.close_ended(round_ - 1);
  accounts_.bound_threads();
}

}  // namespace nopspan::collector
