// SPDX-License-Identifier: Apache-2.0
// Attaches to files, and detaches from them.
#pragma once

#include "base/time_budget.h"
#include "host/host.h"
#include "host/probe_file.h"
#include "live/probe_link.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace nopspan::collector {

class Attachments {
 public:
  struct Target {
    ProbeFilePointer file;
    std::string path;               // for people
    int pid = -1;                   // -1 for all processes that map the file
    std::set<std::uint32_t> users;  // of processes that map the file: one is charged. If there is none, nobody is
  };

  // Attaches to a file, in one process or in all (`pid` -1). If that fails, returns an empty link and sets `why_not`.
  using Attach = std::function<ProbeLink(const ProbeFile& file, int pid, std::string& why_not)>;

  explicit Attachments(Attach attach);

  // Whether a target is not attached yet and may be tried now, or is attached and not among the targets.
  [[nodiscard]] bool is_due(const std::vector<Target>& targets, std::uint64_t now_ns) const;
  // Attaches to the targets that are not attached yet, and detaches from all others. A failed target is tried again
  // after a pause that doubles up to 30 s. The reason of a failure is printed to stderr when it changes. Returns the
  // targets that are newly attached. After 50 ms, the remaining targets are left to the next call. Attaching and
  // detaching take milliseconds, so each user has a budget of time. If all users of a target have used it up, the
  // target is tried again later, and stderr says so once.
  std::vector<Target> set(const std::vector<Target>& targets);
  // Still true after detach_all().
  [[nodiscard]] bool is_attached(const ProbeFile& file, int pid) const;
  void detach_all();

 private:
  struct Attached {
    Target target;
    std::optional<uid_t> user;  // none if nobody is charged
    bool is_attached = false;
    ProbeLink link;
    std::string why_not;
    std::uint64_t again_ns = 0;
    std::uint64_t pause_ns = 250'000'000;
  };
  using Key = std::pair<const ProbeFile*, int>;

  bool attach(Attached& attached);
  // Calls `function` and charges the user with the time.
  template <typename Function>
  auto charged(const std::optional<uid_t>& user, Function function);
  // Chooses the user who is charged. Anybody can map the file of another user, so one with time left is enough.
  bool may_attach(const Target& target, Attached& attached);

  Attach attach_;
  TimeBudget budget_;
  std::set<uid_t> slowed_;  // users of whom stderr has said that they wait
  std::map<Key, Attached> attached_;
};

// The files to attach to: all of them, or those of some processes. `attachments` are the present ones.
std::vector<Attachments::Target> attachment_targets(Host& host, const std::vector<std::uint32_t>& pids,
                                                    const Attachments& attachments);

}  // namespace nopspan::collector
