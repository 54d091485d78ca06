// SPDX-License-Identifier: Apache-2.0
#include "live/traced_processes.h"

#include "base/open_file.h"
#include "host/process_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <tuple>
#include <utility>

namespace nopspan::collector {

ProcessFilter::ProcessFilter(const Filter& filter) : pids_(filter.pids) {
  if (!filter.cgroup.empty()) cgroup_ = find_cgroup(filter.cgroup);
}

bool ProcessFilter::has_pid(std::uint32_t pid) const {
  return pids_.empty() || std::find(pids_.begin(), pids_.end(), pid) != pids_.end();
}

bool ProcessFilter::wants(std::uint32_t pid) const {
  return has_pid(pid) && (cgroup_.path.empty() || is_below_cgroup(cgroup_of(pid), cgroup_.path));
}

std::size_t ProcessFilter::count_forked(const std::vector<std::uint32_t>& among) const {
  const auto self = process_state(static_cast<std::uint32_t>(getpid()));
  if (pids_.empty() || !self) return 0;
  const auto is_forked = [&](std::uint32_t pid) {
    if (has_pid(pid)) return false;
    do {
      const auto state = process_state(pid);
      if (!state || state->start_ticks <= self->start_ticks) return false;
      pid = static_cast<std::uint32_t>(state->parent);
    } while (!has_pid(pid));
    return true;
  };
  return static_cast<std::size_t>(std::count_if(among.begin(), among.end(), is_forked));
}

void ProcessFilter::look_up_cgroup(const std::function<bool(int)>& set) {
  if (cgroup_.folder.empty()) return;
  const OpenFile folder(open(cgroup_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (!folder || fstat(folder.get(), &status) != 0 || status.st_ino == inode_) return;
  if (set(folder.get())) inode_ = status.st_ino;
}

namespace {

std::vector<std::uint64_t> take_least(TracedProcess& process, std::size_t most) {
  using Iterator = decltype(process.threads)::iterator;
  std::vector<std::uint64_t> ids;
  if (process.threads.size() <= most) return ids;
  std::vector<Iterator> all;
  for (auto thread = process.threads.begin(); thread != process.threads.end(); ++thread) all.push_back(thread);
  const auto order = [](const TracedThread& thread) {
    return std::tuple(thread.closing_round == 0, thread.fetched_next > thread.flushed_next, thread.seen_ns);
  };
  const auto kept = all.end() - static_cast<std::ptrdiff_t>(most);
  std::nth_element(all.begin(), kept, all.end(),
                   [&](Iterator a, Iterator b) { return order(a->second) < order(b->second); });
  for (auto thread = all.begin(); thread != kept; ++thread) {
    ids.push_back((*thread)->first);
    process.threads.erase(*thread);
  }
  return ids;
}

}  // namespace

TracedThread* TracedProcess::open(std::uint64_t sequence_id) {
  constexpr std::size_t kMost = TracedProcesses::kMostOfProcess / 3 * 4;
  const auto found = threads.find(sequence_id);
  if (found != threads.end()) return &found->second;
  return threads.size() < kMost ? &threads[sequence_id] : nullptr;
}

void TracedProcess::note(const nopspan_message& message, std::uint64_t round) {
  cgroup = message.cgroup;
  TracedThread* thread = nullptr;
  if ((message.flags & NOPSPAN_MESSAGE_GONE) == 0) {
    thread = open(message.sequence_id);
    if (thread == nullptr) return;
    thread->next = std::max<std::uint64_t>(thread->next, message.next);
    thread->seen_ns = message.time_ns;
    thread->header = message.header;
    thread->held_since_ns = 0;
  }
  if (message.kind == NOPSPAN_MESSAGE_BATCH) {
    if (thread == nullptr) return;
    thread->tid = message.tid;
    thread->flushed_next = std::max<std::uint64_t>(thread->flushed_next, message.next);
    thread->closing_round = 0;
  } else if (thread != nullptr) {
    // A header may be reused by another thread before its former owner has ended completely.
    if (thread->tid == 0 || thread->tid == message.tid) thread->closing_round = round;
  } else {
    // The kernel had freed the thread's memory. The address of its header shows which thread held it.
    const auto known = std::find_if(threads.begin(), threads.end(), [&](const auto& one) {
      return one.second.header == message.header && one.second.closing_round == 0;
    });
    if (known != threads.end()) known->second.closing_round = round;
  }
}

TracedProcess* TracedProcesses::find(std::uint32_t pid) {
  const auto found = processes_.find(pid);
  return found == processes_.end() ? nullptr : &found->second;
}

TracedProcess& TracedProcesses::open(std::uint32_t pid, std::uint32_t tgid) {
  TracedProcess& process = processes_[pid];
  if (tgid != 0 && process.tgid() != tgid) {
    std::erase(process.tgids, tgid);
    process.tgids.push_back(tgid);
    pids_[tgid] = pid;
  }
  return process;
}

void TracedProcesses::close(std::uint32_t pid) {
  const auto found = processes_.find(pid);
  if (found == processes_.end()) return;
  for (const std::uint32_t tgid : found->second.tgids) {
    const auto known = pids_.find(tgid);
    if (known != pids_.end() && known->second == pid) pids_.erase(known);
  }
  processes_.erase(found);
}

std::vector<ForgottenThreads> TracedProcesses::take_ended(std::uint64_t round) {
  std::vector<ForgottenThreads> ended;
  for (auto& [pid, process] : processes_) {
    ForgottenThreads one{pid, {}};
    for (const auto& [id, thread] : process.threads) {
      if (thread.closing_round != 0 && thread.closing_round < round) one.sequence_ids.push_back(id);
    }
    for (const std::uint64_t id : one.sequence_ids) process.threads.erase(id);
    if (!one.sequence_ids.empty()) ended.push_back(std::move(one));
  }
  return ended;
}

std::vector<ForgottenThreads> TracedProcesses::take_excess() {
  std::vector<ForgottenThreads> excess;
  std::size_t threads = 0;
  for (auto& [pid, process] : processes_) {
    if (process.threads.size() > kMostOfProcess) excess.push_back({pid, take_least(process, kMostOfProcess / 4 * 3)});
    threads += process.threads.size();
  }
  const auto has_fewer = [](const auto& a, const auto& b) { return a.second.threads.size() < b.second.threads.size(); };
  while (threads > kMostThreads) {
    auto& [pid, largest] = *std::max_element(processes_.begin(), processes_.end(), has_fewer);
    excess.push_back({pid, take_least(largest, largest.threads.size() / 2)});
    threads -= excess.back().sequence_ids.size();
  }
  return excess;
}

}  // namespace nopspan::collector
