// SPDX-License-Identifier: Apache-2.0
#include "live/drain.h"

#include "host/thread_ids.h"

#include <algorithm>
#include <set>

namespace nopspan::collector {
namespace {

// What is fetched at once, before it is delivered; and of one process in one run, so that none keeps the others
// waiting.
constexpr std::uint64_t kChunkBytes = 1U << 20U;
constexpr std::uint64_t kMostBytesOfProcess = 16U << 20U;
// And in the last run: all that a process with the library can hold, in two copies of it.
constexpr std::uint64_t kMostBytesAtTheEnd = 512U << 20U;

}  // namespace

ThreadHeaders& Drain::headers_of(std::uint32_t pid, const Host::Copy& copy) {
  const ProcessPointer process = host_.process(pid);
  auto& [of, headers] =
      headers_.try_emplace({pid, copy.gate_address}, process, ThreadHeaders(pid, copy.gate_address)).first->second;
  // Another program has that pid now, or the process executed one.
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
      account.entries.not_all_are_known();
      continue;
    }
    ThreadHeaders& headers = headers_of(pid, copy);
    if (!headers.read() || headers.too_many()) account.entries.not_all_are_known();
    const auto ids = thread_ids(*account.entries.process());
    for (const ThreadHeaders::Thread& thread : headers.threads()) {
      if (account.entries.find(thread.header.stream) == nullptr) {
        account.entries.begin_stream(thread.header.stream, thread.header.next, thread.header.discarded, now_ns);
      }
      const auto id = ids.find(thread.header.thread_id);
      if (account.tgid != 0 && id != ids.end()) programs_.note_thread(account.tgid, id->second, thread.address);
    }
  }
}

void Drain::run(std::uint64_t max_age_ns, std::uint64_t now_ns) {
  const std::vector<std::uint32_t> pids = host_.pids();
  std::erase_if(headers_,
                [&](const auto& entry) { return !std::binary_search(pids.begin(), pids.end(), entry.first.first); });
  for (const std::uint32_t pid : pids) {
    if (processes_.wants(pid)) run_process(pid, max_age_ns, now_ns);
  }
}

void Drain::run_process(std::uint32_t pid, std::uint64_t max_age_ns, std::uint64_t now_ns) {
  const std::vector<Host::Copy> copies = host_.copies(pid);
  const std::uint64_t most = max_age_ns != 0 ? kMostBytesOfProcess : kMostBytesAtTheEnd;
  std::uint64_t bytes = 0, chunk = 0;
  for (const Host::Copy& copy : copies) {
    if (copy.gate_address == 0 || !settings_.is_attached(*copy.file)) continue;
    Account& account = delivery_.account(pid);
    ThreadHeaders& headers = headers_of(pid, copy);
    if (!headers.read()) continue;
    const auto& threads = headers.threads();
    // A stream of which it is not known whether it was forgotten begins where it is heard of first: what was handed
    // over before is to come first.
    const bool has_new =
        account.entries.has_forgotten() &&
        std::any_of(threads.begin(), threads.end(), [&](const ThreadHeaders::Thread& thread) {
          return thread.header.next > thread.header.first && account.entries.find(thread.header.stream) == nullptr;
        });
    if (has_new) settings_.consume();
    for (const ThreadHeaders::Thread& thread : threads) {
      delivery_.note_discarded(account, thread.header, now_ns);
      if (!is_due(account, thread.header, max_age_ns, now_ns)) continue;
      if (bytes > most) break;  // the others at the next run
      Fetched one{thread.header, thread.address, {}};
      if (!headers.fetch(thread, one.bytes) || (settings_.tail_sampling && may_be_left_out(account, headers, thread)))
        continue;
      bytes += one.bytes.size();
      chunk += one.bytes.size();
      fetched_.push_back(std::move(one));
      if (chunk < kChunkBytes) continue;
      deliver(account, now_ns);
      chunk = 0;
    }
    deliver(account, now_ns);
  }
}

// What was handed over before it was fetched is in the ring buffer, and comes first.
void Drain::deliver(Account& account, std::uint64_t now_ns) {
  if (fetched_.empty()) return;
  settings_.consume();
  for (const Fetched& one : fetched_) delivery_.fetched(account, one.header, one.address, one.bytes, now_ns);
  fetched_.clear();
}

// A thread that goes on writing has its first entry for longer than written_ns tells.
bool Drain::is_due(Account& account, const nopspan_thread& header, std::uint64_t max_age_ns, std::uint64_t now_ns) {
  if (header.next <= header.first || header.next - header.first > NOPSPAN_MOST_ENTRIES || header.bytes == 0)
    return false;
  ProcessAccount::Stream& stream = account.entries.open(header.stream, header.first);
  if (header.next <= stream.ledger.next()) {
    stream.held_since_ns = 0;
    return false;
  }
  if (max_age_ns == 0) return true;
  if (stream.held_since_ns == 0) stream.held_since_ns = now_ns;
  return now_ns - stream.held_since_ns >= max_age_ns / 4 * 3 || header.written_ns + max_age_ns < now_ns;
}

// The kernel's program is told that a part was fetched, and then asked whether it has left the batch out: one of the
// two sees the other.
bool Drain::may_be_left_out(const Account& account, const ThreadHeaders& headers, const ThreadHeaders::Thread& thread) {
  const nopspan_stream_key key{account.tgid, thread.header.stream};
  if (account.tgid == 0 || !programs_.note_fetched(key, thread.header.next)) return true;
  const auto losses = programs_.losses_of(key);
  return (losses && losses->filtered_next > thread.header.first) || !headers.still_holds(thread);
}

}  // namespace nopspan::collector
