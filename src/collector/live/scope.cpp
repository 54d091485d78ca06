// SPDX-License-Identifier: Apache-2.0
#include "live/scope.h"

#include "host/cgroup_folder.h"
#include "host/container.h"

#include <memory>

namespace nopspan::collector {
namespace {

// Where more come and go, they are looked for again.
constexpr std::size_t kMostKnown = 65536;

bool has(const Filter& filter, const ProcessPointer& process) {
  Span any;
  any.process = &process;
  return filter.is_in_scope(any);
}

}  // namespace

Scope::Scope(const Filter& filter) {
  by_pid_.pids = filter.pids;
  by_cgroup_.cgroup = filter.cgroup;
  numbers_tell_ = !filter.cgroup.empty() && has_number(filter.cgroup);
}

bool Scope::has_pid(const ProcessPointer& process) const { return has(by_pid_, process); }
bool Scope::has_place(const ProcessPointer& process) const { return has(by_cgroup_, process); }

std::optional<bool> Scope::has_cgroup(std::uint64_t cgroup, const Process& process) {
  if (by_cgroup_.cgroup.empty()) return true;
  if (!numbers_tell_) return std::nullopt;
  if (const auto known = known_.find(cgroup); known != known_.end()) return known->second;
  if (known_.size() >= kMostKnown) known_.clear();
  std::optional<bool>& is_wanted = known_[cgroup];
  const auto there = std::make_shared<Process>();
  there->cgroup = cgroup_id(process.cgroup) == cgroup ? process.cgroup : path_of_cgroup(cgroup);
  there->container = container_id(there->cgroup);
  if (!there->cgroup.empty()) is_wanted = has_place(there);
  return is_wanted;
}

}  // namespace nopspan::collector
