// SPDX-License-Identifier: Apache-2.0
#include "live/delivery.h"

#include "live/batch_reader.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>

namespace nopspan::collector {
Delivery::Delivery(const Filter& filter, Host& host, const ClockMap& clocks, bool same_numbers)
    : filter_(filter), host_(host), clocks_(clocks), same_numbers_(same_numbers), began_ns_(clocks.monotonic_now()) {}

Delivery::Account& Delivery::account(std::uint32_t pid, std::uint32_t tgid, std::string_view command) {
  if (Account* known = accounts_.find(pid)) {
    if (tgid != 0) known->tgid = tgid;
    // The account was created from losses, before the first record had the command.
    if (!command.empty() && known->entries.process()->command.empty()) {
      known->entries.set_process(with_command(known->entries.process(), command));
    }
    return *known;
  }
  ProcessPointer process = host_.process(pid);
  if (process->command.empty()) process = with_command(process, command);  // the process is gone already
  if (same_numbers_) tgid = pid;
  return accounts_.add(pid, {ProcessAccount(std::move(process), began_ns_, true), tgid});
}

void Delivery::record(const nopspan_record& record, std::string_view bytes) {
  const std::uint32_t pid = record.pid;
  if (pid == 0) return;  // the process is in another pid namespace, so nothing can be found out about it
  if (record.kind == NOPSPAN_RECORD_EXEC) {
    host_.note_pid(pid);
    return;
  }
  const std::string_view command(record.command, strnlen(record.command, sizeof(record.command)));
  Account& account = this->account(pid, record.tgid, command);
  if (account.cgroup != record.cgroup) {
    account.cgroup = record.cgroup;
    note_moved(pid, account);
  }
  ProcessAccount::Stream* stream = nullptr;
  const bool is_held = record.kind != NOPSPAN_RECORD_BATCH;
  if ((record.flags & NOPSPAN_RECORD_GONE) == 0 &&
      !(is_held && is_after_the_end(account, record.stream, record.first))) {
    const Batch batch{
        record.stream, {record.first, record.next}, record.discarded, record.capacity, record.header, record.thread_id,
        record.time_ns};
    stream = take(account, batch, bytes);
  }
  if (is_held) {
    end_thread(account, record, stream);
  } else if (stream != nullptr) {
    stream->thread = record.tid;
    stream->closing_round = 0;
    stream->handed_next = std::max<std::uint64_t>(stream->handed_next, record.next);
  }
}

void Delivery::note_moved(std::uint32_t pid, Account& account) {
  host_.note_moved(pid);
  const ProcessPointer process = host_.process(pid);
  if (process->start_ticks != 0 && process->start_ticks == account.entries.process()->start_ticks)
    account.entries.set_moved(process);
}

void Delivery::give(ProcessAccount& account, const Span& span) {
  if (filter_.may_want_request_of(span)) {
    account.delivered(1);
    sink_->on_span(span);
  } else {
    account.filtered(1);
  }
}

void Delivery::end_thread(Account& account, const nopspan_record& record, ProcessAccount::Stream* stream) const {
  if (stream != nullptr) {
    // A header may be reused by another thread before its former owner has ended completely.
    if (stream->thread == 0 || stream->thread == record.tid) stream->closing_round = round_;
    return;
  }
  // The kernel had freed the thread's memory. The address of its header shows which stream it was.
  for (auto& [id, known] : account.entries.streams()) {
    if (known.header != record.header || known.closing_round != 0) continue;
    known.closing_round = round_;
    account.entries.held_by_killed(known.capacity / sizeof(nopspan_entry));
    return;
  }
}

bool Delivery::is_after_the_end(Account& account, std::uint64_t stream, std::uint64_t first) const {
  if (!is_detached_) return false;
  const ProcessAccount::Stream* known = account.entries.find(stream);
  return known == nullptr || first > known->ledger.next();
}

ProcessAccount::Stream* Delivery::take(Account& account, const Batch& batch, std::string_view bytes) {
  ProcessAccount::Stream* stream = account.entries.arriving(batch.stream, batch.sequences, batch.time_ns);
  if (stream == nullptr) return nullptr;
  stream->header = batch.header;
  stream->capacity = batch.capacity;
  stream->note_discarded(batch.sequences.first, batch.discarded);
  stream->held_since_ns = 0;
  // A record has no bytes in two cases: it announces a header, or the thread was stopped after it flushed and before it
  // updated its header.
  if (bytes.empty()) {
    stream->ledger.emitted_until(batch.sequences.next);
  } else {
    deliver(account.entries, *stream, batch, bytes);
  }
  return stream;
}

void Delivery::deliver(ProcessAccount& account, ProcessAccount::Stream& stream, const Batch& batch,
                       std::string_view bytes) {
  const std::vector<Sequences>& fresh = stream.ledger.arrive(batch.sequences);
  if (fresh.empty()) return;
  BatchReader reader(bytes, batch.sequences.count(), clocks_);
  Span span;
  span.thread_id = batch.thread_id;
  span.stream = batch.stream;
  span.process = &stream.process;
  auto part = fresh.begin();
  std::uint64_t next_unread = batch.sequences.first;
  const auto is_fresh = [&](std::uint64_t sequence) {
    while (part != fresh.end() && sequence >= part->next) ++part;
    return part != fresh.end() && sequence >= part->first;
  };
  for (;;) {
    const BatchReader::Outcome outcome = reader.next(span);
    if (outcome == BatchReader::Outcome::end) break;
    span.sequence = next_unread++;
    if (!is_fresh(span.sequence)) continue;
    if (outcome != BatchReader::Outcome::span) {
      account.malformed(1);
    } else {
      give(account, span);
    }
  }
  // Entries that the writer reported and that the bytes do not have.
  for (; next_unread < batch.sequences.next; ++next_unread) account.malformed(is_fresh(next_unread) ? 1 : 0);
}

void Delivery::fetched(Account& account, const nopspan_thread& thread, std::uint64_t address, std::string_view bytes,
                       std::uint64_t now_ns) {
  // The header may have been read while the thread was adding its last entry.
  const std::uint64_t whole = BatchReader::whole_entries(bytes, thread.next - thread.first);
  const Batch batch{
      thread.stream, {thread.first, thread.first + whole}, thread.discarded, thread.capacity, address, thread.thread_id,
      now_ns};
  if (is_after_the_end(account, thread.stream, thread.first)) return;
  if (ProcessAccount::Stream* stream = take(account, batch, bytes)) stream->fetched_next = batch.sequences.next;
}

void Delivery::note_discarded(Account& account, const nopspan_thread& thread, std::uint64_t now_ns) {
  if (is_detached_ || thread.discarded == 0) return;
  const ProcessAccount::Stream* known = account.entries.find(thread.stream);
  if (known != nullptr && thread.discarded <= known->discarded) return;
  ProcessAccount::Stream* stream = account.entries.arriving(thread.stream, {thread.first, thread.first}, now_ns);
  if (stream == nullptr) return;
  stream->note_discarded(thread.first, thread.discarded);
  stream->ledger.emitted_until(thread.first);
}

// After one full round, everything that was fetched from a thread before it ended has been delivered.
void Delivery::next_round() {
  ++round_;
  for (auto& [pid, account] : accounts_.all()) account.entries.close_ended(round_ - 1);
  accounts_.bound_streams();
}

}  // namespace nopspan::collector
