// SPDX-License-Identifier: Apache-2.0
// What the tracer must know of processes and their threads: which have ended, and how far their entries were passed on.
// What became of the entries is the reader's business (reader/process_account.h).
#pragma once

#include "host/cgroup.h"
#include "model/entry.h"
#include "model/filter.h"
#include "stream/messages.h"

#include <nopspan/probes.h>

#include <collector_events.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

// Decides which processes a filter wants, by their pid and their cgroup.
class ProcessFilter {
 public:
  // Throws Failure if the cgroup does not exist.
  explicit ProcessFilter(const Filter& filter);

  [[nodiscard]] bool has_pid(std::uint32_t pid) const;
  // Whether the process is wanted, by the cgroup in which it is now.
  [[nodiscard]] bool wants(std::uint32_t pid) const;
  // How many of these processes the processes that --pid names have forked since this program began. Includes the
  // children of such processes. 0 without --pid.
  [[nodiscard]] std::size_t count_forked(const std::vector<std::uint32_t>& among) const;
  // Passes the open folder of the wanted cgroup to `set` if it is another cgroup than the one that `set` last returned
  // true for: a service that restarts gets a new cgroup under the same path.
  void look_up_cgroup(const std::function<bool(int)>& set);

 private:
  std::vector<std::uint32_t> pids_;
  CgroupFolder cgroup_;
  std::uint64_t inode_ = 0;
};

struct TracedThread {
  std::uint64_t next = 0;           // its entries before this one were passed on, or are of before the attach
  std::uint64_t fetched_next = 0;   // the same, if they were fetched
  std::uint64_t flushed_next = 0;   // the same, if it has flushed them
  std::uint64_t held_since_ns = 0;  // since when it is known to hold others; 0 if it holds none
  std::uint64_t seen_ns = 0;        // when something of it was last passed on
  std::uint64_t header = 0;         // its address
  std::uint64_t closing_round = 0;  // the round in which it ended; 0 if it lives
  std::uint32_t tid = 0;            // in the initial pid namespace; 0 if not known
};

struct TracedProcess {
  // The kernel programs' number of the process; 0 if it is not known yet.
  [[nodiscard]] std::uint32_t tgid() const { return tgids.empty() ? 0 : tgids.back(); }
  // The thread is added if it is not known. Null if there is no room.
  TracedThread* open(std::uint64_t sequence_id);
  // A message of the process was passed on.
  void note(const nopspan_message& message, std::uint64_t round);

  ProcessPointer process;  // null if it was not described yet
  // There are several if the pid was reused, because processes of a pid namespace can have the same pid and different
  // numbers in the kernel.
  std::vector<std::uint32_t> tgids;
  std::uint64_t cgroup = 0;                                 // of its last message; 0 if there was none
  std::uint64_t closing_round = 0;                          // when it was found to have ended; 0 if it was not
  bool has_begun = false;                                   // it was attached to while it ran
  bool has_successor = false;                               // another process has the same pid now
  std::unordered_map<std::uint64_t, TracedThread> threads;  // by sequence_id
};

class TracedProcesses {
 public:
  // The most threads of a process, and of all, after a round. on_forgotten() reports whom this forgets.
  static constexpr std::size_t kMostOfProcess = 32'768, kMostThreads = 65'536;

  [[nodiscard]] TracedProcess* find(std::uint32_t pid);
  // The process with this number in the kernel programs.
  [[nodiscard]] std::optional<std::uint32_t> pid_of(std::uint32_t tgid) const {
    const auto found = pids_.find(tgid);
    return found == pids_.end() ? std::nullopt : std::optional(found->second);
  }
  // The process is added if it is not known. `tgid` is 0 if it is not known.
  TracedProcess& open(std::uint32_t pid, std::uint32_t tgid);
  [[nodiscard]] std::map<std::uint32_t, TracedProcess>& all() { return processes_; }
  void close(std::uint32_t pid);

  // Removes the threads that ended before `round`.
  std::vector<ForgottenThreads> take_ended(std::uint64_t round);
  // Removes threads beyond the limits: those that have ended first, then those that hold no fetched entries, then the
  // others. Among these, those of which nothing was passed on for longest.
  std::vector<ForgottenThreads> take_excess();

 private:
  std::map<std::uint32_t, TracedProcess> processes_;
  std::unordered_map<std::uint32_t, std::uint32_t> pids_;  // by tgid
};

}  // namespace nopspan::collector
