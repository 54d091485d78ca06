// SPDX-License-Identifier: Apache-2.0
// Attaches to files, and detaches from them.
//
// One attach to a file is enough for all processes. But the kernel changes each mapping of each process in one call,
// during which no process on the host can fork, and it gives up if one of them fails. Anybody can make it fail, by a
// negative semaphore, or make it take long, by many mappings. Therefore such a file is attached to in each process
// *alone*, until it can be attached to in all processes *together* again. The same is done while a process must be left
// out: the kernel then removes the breakpoint from its memory, and lowers its gate.
#pragma once

#include "base/open_file.h"
#include "base/time_budget.h"
#include "host/host.h"
#include "host/leave_out.h"
#include "host/probe_file.h"
#include "live/probe_link.h"
#include "model/ledger.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Attachments {
 public:
  // If all processes together have more mappings of a file, it is attached to in each process alone. If they have more
  // than the second number, it is not attached to: the kernel takes a lock for each mapping even then.
  static constexpr std::uint64_t kMostTogether = 1U << 14U, kMostAtAll = 1U << 17U;
  // The same for the time of the processes that take longer than usual ones (attach_ns()).
  static constexpr std::uint64_t kUsualNs = 100'000, kMostCostlyNs = 50'000'000;

  struct Target {
    ProbeFilePointer file;
    std::string path;               // for people
    int pid = -1;                   // -1 for all processes that map the file
    std::set<std::uint32_t> users;  // of processes that map the file: one is charged. If there is none, nobody is
    std::string comm;               // of the process
    std::string left_out;           // why it must not be attached to; "" if it may be
    // The processes that is_crowd() applies to.
    std::vector<Host::Mapper> crowds;
    std::uint64_t program = 0;   // of the process: an attach ends with it (Host::Mapper)
    std::uint64_t mappings = 0;  // of the file, in all processes together
  };

  // Attaches to a file, in one process or in all (`pid` -1). If that fails, returns an empty link and sets `why_not`.
  using Attach = std::function<OpenFile(const ProbeFile& file, int pid, WhyNot& why_not)>;

  // `hold` attaches to one process only to keep the kernel from changing its mappings back: the kernel does that when
  // nothing is attached to the process any more, and for many mappings it takes long.
  Attachments(Attach attach, Attach hold);

  // The targets for a file that is to be attached to in all processes. `mappers` are those that map it.
  struct Others {
    bool have_uncounted = false;  // there may be others that map it, with many mappings
    bool are_not_wanted = false;  // there are others that map it, and must not be attached to
  };
  [[nodiscard]] std::vector<Target> targets_for(const Host::Found& found, const std::vector<Host::Mapper>& mappers,
                                                const Others& others, std::uint64_t now_ns) const;

  // Whether a target is not attached yet and may be tried now, or is attached and not among the targets.
  [[nodiscard]] bool is_due(const std::vector<Target>& targets, std::uint64_t now_ns) const;
  // Attaches to the targets that are not attached yet, and detaches from all others. A failed target is tried again
  // after a pause that doubles up to 30 s. The reason of a failure is printed to stderr when it changes. Returns the
  // targets that are newly attached. After 50 ms, the remaining targets are left to the next call. Attaching and
  // detaching take milliseconds, so each user has a budget of time. If all users of a target have used it up, the
  // target is tried again later, and stderr says so once.
  std::vector<Target> set(const std::vector<Target>& targets);
  // Whether the last set() left targets to the next one.
  [[nodiscard]] bool is_behind() const { return is_behind_; }
  // These are still true after detach_all().
  [[nodiscard]] bool is_attached(const ProbeFile& file, int pid) const;
  // Whether the file is attached to in this process, alone or with all others.
  [[nodiscard]] bool is_traced(const ProbeFile& file, std::uint32_t pid) const;
  // Closes links, and charges their users with the time.
  using LinksOfUsers = std::map<std::optional<uid_t>, std::vector<OpenFile>>;
  void detach_each(LinksOfUsers& links);
  // Whether there are targets with a pid. Processes that map their files must then be looked for.
  [[nodiscard]] bool has_alone() const;
  // The number of files that could not be attached to in all processes together, and are not attached to so now.
  [[nodiscard]] std::size_t apart() const { return apart_.size(); }
  // What could not be attached to since the start, and was not attached to later. In a ledger with nothing else.
  [[nodiscard]] Ledger unattached() const;
  // Whether a file among them is attached to in no process, or a process among them is one of `pids`, which the user
  // asked for.
  [[nodiscard]] bool has_failed(const std::vector<std::uint32_t>& pids) const {
    return (!pids.empty() && !unattached_.empty()) ||
           std::any_of(tried_files_.begin(), tried_files_.end(), [](const auto& one) { return !one.second; });
  }
  // The file to which an attach has not returned for a while, or "". Any thread may call it.
  [[nodiscard]] std::string hangs_at() const;
  // Detaches from everything, except from processes that have too many mappings of a file. Another process stays
  // attached to these until they end; to all processes if it could not be attached to these alone in time.
  void detach_all();

 private:
  struct Attached {
    Target target;
    std::optional<uid_t> user;  // none if nobody is charged
    bool is_attached = false;
    OpenFile link;
    std::string why_not;
    bool is_unnamed = false;  // it is one of unnamed_
    std::uint64_t again_ns = 0;
    std::uint64_t pause_ns = 250'000'000;
  };
  using Key = std::pair<const ProbeFile*, int>;
  // The path, the device and the inode: in two containers, a path may lead to different files.
  using FileKey = std::tuple<std::string, std::uint64_t, std::uint64_t>;
  static FileKey file_key(const Target& target) {
    return {target.path, target.file->id().device, target.file->id().inode};
  }
  // Whether the process has executed another program since, or another process has its pid. Then a link to it may do
  // nothing any more.
  static bool is_other_program(std::uint64_t then, std::uint64_t now) { return then != 0 && now != 0 && then != now; }
  // When a file that cannot be attached to in all processes together is tried again.
  struct Apart {
    std::uint64_t again_ns = 0;
    std::uint64_t pause_ns = 1'000'000'000;
  };

  // A process with too many mappings of a file. If it has no link of its own, the target stays attached until it ends.
  // There are at most kMostHeld links, because to make one takes time, and kMostKept processes: those with most
  // mappings.
  struct Held {
    ProbeFilePointer file;
    OpenFile link;
    bool is_of_all = false;  // the link is not to this process alone: it was the target's
    OpenFile process;        // a pidfd
    std::string comm, path;
    std::uint64_t mappings = 0, program = 0;
  };

  bool attach(Attached& attached);
  void note_files();
  void note_failure(Attached& attached, const WhyNot& why_not);
  // Writes to stderr, unless it said the same less than 30 s ago.
  void say(const std::string& text);
  void hold_crowds(const std::vector<Target>& targets);
  [[nodiscard]] bool may_hold(const Host::Mapper& crowd) const;
  // The link will be closed. If held processes depend on it, they get a duplicate.
  void keep_for_held(const Key& key, const OpenFile& link);
  // Links that another process has to keep, and what to tell people.
  std::vector<LeftLink> left_links(std::string& text);
  // Calls `function` and charges the user with the time.
  template <typename Function>
  auto charged(const std::optional<uid_t>& user, Function function);
  // Chooses the user who is charged. Anybody can map the file of another user, so one with time left is enough.
  bool may_attach(const Target& target, Attached& attached);
  // So that forks do not wait for one detach after another, few of them may wait for the kernel if each takes long.
  [[nodiscard]] std::size_t most_detachers() const;

  Attach attach_, hold_;
  TimeBudget budget_;
  std::set<uid_t> slowed_;  // users of whom stderr has said that they wait
  std::map<Key, Attached> attached_;
  std::map<const ProbeFile*, Apart> apart_;
  std::map<Key, Held> held_;
  std::uint64_t most_mappings_ = 0;  // of a file, in all processes together
  bool is_behind_ = false;
  std::map<FileKey, bool> tried_files_;                                 // and whether they were attached to anywhere
  std::map<std::pair<FileKey, std::uint32_t>, Unattached> unattached_;  // by file and pid
  std::uint64_t unnamed_ = 0;                                           // for which it had no room
  std::map<std::string, std::uint64_t> said_;                           // and when
  mutable std::mutex call_mutex_;
  std::string call_path_;  // of the file that an attach is in progress to
  std::uint64_t call_began_ns_ = 0;
};

// The files to attach to: all of them, or those of some processes. `attachments` are the present ones.
std::vector<Attachments::Target> attachment_targets(Host& host, const std::vector<std::uint32_t>& pids,
                                                    const LeaveOut& leave_out, const Attachments& attachments);

}  // namespace nopspan::collector
