// SPDX-License-Identifier: Apache-2.0
#include "live/drain.h"

#include "stream/batch_entries.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

namespace nopspan::collector {
namespace {

// Limits on what is fetched before it is delivered, and from one process in one round, so that no process delays the
// others.
constexpr std::uint64_t kPartBytes = 1U << 20U;
constexpr std::size_t kPartThreads = 512;
constexpr std::uint64_t kMostBytesOfProcess = 16U << 20U;
// The limit in the last round: everything that a process can hold in two copies of the library.
constexpr std::uint64_t kMostBytesAtTheEnd = 512U << 20U;

}  // namespace

void Drain::begin_round(std::uint64_t max_age_ns, std::uint64_t now_ns) {
  if (max_age_ns_ != 0) is_whole_ = true;  // the rounds at the end count as one
  max_age_ns_ = max_age_ns;
  now_ns_ = now_ns;
  bytes_.clear();
  is_reading_ = true;
  host_.read_headers();
}

void Drain::on_report(HeadersRead&& report) {
  if (report.dropped != Counts() && !is_closed(report.pid))
    reader_.on_dropped({report.pid, report.gate_address, report.dropped, report.time_ns});
  headers_.push_back({std::move(report)});
  if (!is_fetching_) fetch_next();
}

void Drain::on_report(const Fetched& report) {
  if (!is_closed(report.pid)) {
    TracedProcess& process = processes_.open(report.pid, 0);
    for (const Fetched::Thread& one : report.threads) {
      reader_.on_held({Held::What::fetched, report.pid, one.header, one.address, now_ns_, one.bytes});
      // The header may have been read while the thread was adding its last entry.
      const std::uint64_t entries = whole_entries(one.bytes, one.header.next - one.header.first);
      if (TracedThread* thread = process.open(one.header.sequence_id)) {
        thread->fetched_next = one.header.first + entries;
        thread->next = std::max(thread->next, thread->fetched_next);
        thread->seen_ns = now_ns_;
        thread->header = one.address;
        thread->held_since_ns = 0;
      }
    }
  }
  is_fetching_ = false;
  is_whole_ = is_whole_ && report.is_whole;
  fetch_next();
}

bool Drain::give_up() {
  const bool is_partial = is_busy() || !is_whole_;
  while (is_fetching_) {
    if (!is_closed(wanted_.pid)) {
      for (const ThreadHeaders::Thread& one : wanted_.threads)
        reader_.on_held({Held::What::not_fetched, wanted_.pid, one.header, one.address, now_ns_, {}});
    }
    is_fetching_ = false;
    choose_next();
  }
  is_reading_ = false;
  return is_partial;
}

void Drain::fetch_next() {
  choose_next();
  if (is_fetching_) host_.fetch(wanted_);
}

void Drain::choose_next() {
  while (!headers_.empty()) {
    Rest rest = std::move(headers_.front());
    headers_.pop_front();
    wanted_ = next_of(rest);
    if (wanted_.threads.empty()) continue;
    is_fetching_ = true;
    headers_.push_back(std::move(rest));  // the other processes come first
    return;
  }
}

// Other processes may have delayed the report until the process had ended and its account was closed. A new account
// would count the process's entries again.
bool Drain::is_closed(std::uint32_t pid) const {
  return processes_.find(pid) == nullptr && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH;
}

HostThread::Fetch Drain::next_of(Rest& rest) {
  const HeadersRead& headers = rest.headers;
  if (is_closed(headers.pid)) return {};
  TracedProcess& process = processes_.open(headers.pid, 0);
  HostThread::Fetch wanted{headers.pid, process.tgid(), headers.gate_address, {}};
  const std::uint64_t most = max_age_ns_ != 0 ? kMostBytesOfProcess : kMostBytesAtTheEnd;
  std::uint64_t& bytes = bytes_[headers.pid];
  // What a process holds beyond its limit is fetched in the next round.
  for (std::uint64_t part = 0; part < kPartBytes && wanted.threads.size() < kPartThreads &&
                               rest.next_thread < headers.threads.size() && bytes <= most;
       ++rest.next_thread) {
    const ThreadHeaders::Thread& thread = headers.threads[rest.next_thread];
    Held held{Held::What::discarded, headers.pid, thread.header, thread.address, now_ns_, {}};
    if (thread.header.discarded != 0) reader_.on_held(held);
    if (headers.is_unseen) {
      held.what = Held::What::not_fetched;
      reader_.on_held(held);
      continue;
    }
    if (!is_due(process, thread.header)) continue;
    bytes += thread.header.bytes;
    part += thread.header.bytes;
    wanted.threads.push_back(thread);
  }
  return wanted;
}

// `written_ns` is the time of the last entry. A thread that keeps writing has held its first entry for longer, so the
// time since the collector saw it hold entries is compared too.
bool Drain::is_due(TracedProcess& process, const nopspan_thread& header) const {
  if (header.next == header.first || header.bytes == 0) return false;
  TracedThread* const thread = process.open(header.sequence_id);
  if (thread == nullptr) return false;
  if (header.next <= thread->next) {
    thread->held_since_ns = 0;
    return false;
  }
  if (max_age_ns_ == 0) return true;
  if (thread->held_since_ns == 0) thread->held_since_ns = now_ns_;
  const std::int64_t ahead_ns = process.process ? process.process->clock_offset_ns : 0;
  const std::uint64_t written_ns = header.written_ns - static_cast<std::uint64_t>(ahead_ns);
  return now_ns_ - thread->held_since_ns >= max_age_ns_ / 4 * 3 || written_ns + max_age_ns_ < now_ns_;
}

}  // namespace nopspan::collector
