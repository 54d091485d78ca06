// SPDX-License-Identifier: Apache-2.0
#include "live/drain.h"

#include "host/process_facts.h"

#include <algorithm>

namespace nopspan::collector {
namespace {

// Limits on what is fetched before it is delivered, and from one process in one round, so that no process delays the
// others.
constexpr std::uint64_t kChunkBytes = 1U << 20U;
constexpr std::uint64_t kMostBytesOfProcess = 16U << 20U;
// The limit in the last round: everything that a process can hold in two copies of the library.
constexpr std::uint64_t kMostBytesAtTheEnd = 512U << 20U;

}  // namespace

ThreadHeaders& Drain::headers_of(std::uint32_t pid, const Host::Copy& copy) {
  const ProcessPointer process = host_.process(pid);
  auto& [of, headers] =
      headers_.try_emplace({pid, copy.gate_address}, process, ThreadHeaders(pid, copy.gate_address)).first->second;
  // The pid was reused, or the process executed another program.
  if (of != process) {
    of = process;
    headers = ThreadHeaders(pid, copy.gate_address);
  }
  return headers;
}

void Drain::begin(std::uint32_t pid, const ProbeFile& file, std::uint64_t now_ns) {
  if (!processes_.has_pid(pid)) return;
  const std::vector<Host::Copy> copies = host_.copies(pid);
  for (const Host::Copy& copy : copies) {
    if (copy.file.get() != &file) continue;
    Account& account = delivery_.account(pid);
    if (copy.gate_address == 0) {
      account.set_some_unknown();
      continue;
    }
    ThreadHeaders& headers = headers_of(pid, copy);
    if (!headers.read() || headers.too_many()) account.set_some_unknown();
    const auto ids = thread_ids(*account.process());
    for (const ThreadHeaders::Thread& thread : headers.threads()) {
      if (account.find(thread.header.sequence_id) == nullptr) {
        account.begin_thread(thread.header.sequence_id, thread.header.next, thread.header.discarded, now_ns);
      }
      const auto id = ids.find(thread.header.thread_id);
      if (account.tgid != 0 && id != ids.end()) programs_.note_thread(account.tgid, id->second, thread.address);
    }
  }
}

void Drain::begin_round(std::uint64_t max_age_ns, std::uint64_t now_ns) {
  round_ = {};
  round_.max_age_ns = max_age_ns;
  round_.now_ns = now_ns;
  const std::vector<std::uint32_t> pids = host_.pids();
  std::erase_if(headers_,
                [&](const auto& entry) { return !std::binary_search(pids.begin(), pids.end(), entry.first.first); });
  for (const std::uint32_t pid : pids) {
    for (const Host::Copy& copy : host_.copies(pid)) {
      // If a file is not attached, its batches may have gone to another tracer.
      if (copy.gate_address != 0 && attachments_.is_attached(*copy.file)) round_.copies.push_back({pid, copy});
    }
  }
}

bool Drain::fetch() {
  while (round_.copy < round_.copies.size()) {
    const Copy& copy = round_.copies[round_.copy];
    if (fetch_from(copy)) return true;
    ++round_.copy;
    round_.headers = nullptr;
    if (round_.copy < round_.copies.size() && round_.copies[round_.copy].pid != copy.pid) round_.bytes = 0;
  }
  return false;
}

bool Drain::fetch_from(const Copy& copy) {
  if (round_.headers == nullptr && !processes_.wants(copy.pid)) return false;
  Account& account = delivery_.account(copy.pid);
  if (round_.headers == nullptr) {
    ThreadHeaders& headers = headers_of(copy.pid, copy.copy);
    if (!headers.read()) return false;
    round_.headers = &headers;
    round_.thread = 0;
    const auto& threads = headers.threads();
    // If ledgers of live threads were closed, an unknown thread begins where it is first seen. Batches that it flushed
    // earlier must therefore be delivered first.
    if (account.has_forgotten() &&
        std::any_of(threads.begin(), threads.end(), [&](const ThreadHeaders::Thread& thread) {
          return thread.header.next > thread.header.first && account.find(thread.header.sequence_id) == nullptr;
        }))
      return true;
  }
  const std::uint64_t most = round_.max_age_ns != 0 ? kMostBytesOfProcess : kMostBytesAtTheEnd;
  const auto& threads = round_.headers->threads();
  for (std::uint64_t chunk = 0; chunk < kChunkBytes && round_.thread < threads.size(); ++round_.thread) {
    const ThreadHeaders::Thread& thread = threads[round_.thread];
    delivery_.note_discarded(account, thread.header, round_.now_ns);
    if (!is_due(account, thread.header)) continue;
    if (round_.bytes > most) break;  // the remaining threads follow in the next round
    Fetched one{thread.header, thread.address, {}};
    if (!round_.headers->fetch(thread, one.bytes) ||
        (tail_sampling_ && may_be_filtered(account, *round_.headers, thread)))
      continue;
    round_.bytes += one.bytes.size();
    chunk += one.bytes.size();
    fetched_.push_back(std::move(one));
  }
  return !fetched_.empty();
}

void Drain::deliver_fetched() {
  Account& account = delivery_.account(round_.copies[round_.copy].pid);
  for (const Fetched& one : fetched_) delivery_.fetched(account, one.header, one.address, one.bytes, round_.now_ns);
  fetched_.clear();
}

// `written_ns` is the time of the last entry. A thread that keeps writing has held its first entry for longer, so the
// time since the collector saw it hold entries is compared too.
bool Drain::is_due(Account& account, const nopspan_thread& header) const {
  const std::uint64_t max_age_ns = round_.max_age_ns, now_ns = round_.now_ns;
  if (header.next <= header.first || header.next - header.first > NOPSPAN_MOST_ENTRIES || header.bytes == 0)
    return false;
  ProcessAccount::Thread& thread = account.open(header.sequence_id, header.first);
  if (header.next <= thread.ledger.next()) {
    thread.held_since_ns = 0;
    return false;
  }
  if (max_age_ns == 0) return true;
  if (thread.held_since_ns == 0) thread.held_since_ns = now_ns;
  return now_ns - thread.held_since_ns >= max_age_ns / 4 * 3 || header.written_ns + max_age_ns < now_ns;
}

// Announces the fetch to the kernel program, and then checks whether it has filtered the batch out. The kernel program
// announces first and checks second too, so at least one side sees the other.
bool Drain::may_be_filtered(const Account& account, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread) {
  const nopspan_thread_key key{account.tgid, thread.header.sequence_id};
  if (account.tgid == 0 || !programs_.note_fetched(key, thread.header.next)) return true;
  const auto losses = programs_.losses_of(key);
  return (losses && losses->filtered_next > thread.header.first) || !headers.still_holds(thread);
}

}  // namespace nopspan::collector
