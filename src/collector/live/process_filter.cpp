// SPDX-License-Identifier: Apache-2.0
#include "live/process_filter.h"

#include "base/open_file.h"
#include "host/process_facts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

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

}  // namespace nopspan::collector
