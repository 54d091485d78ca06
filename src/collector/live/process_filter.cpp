// SPDX-License-Identifier: Apache-2.0
#include "live/process_filter.h"

#include "base/open_file.h"
#include "host/process_facts.h"

#include <fcntl.h>
#include <sys/stat.h>

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

void ProcessFilter::look_up_cgroup(const std::function<bool(int)>& set) {
  if (cgroup_.folder.empty()) return;
  const OpenFile folder(open(cgroup_.folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat status {};
  if (!folder || fstat(folder.get(), &status) != 0 || status.st_ino == inode_) return;
  if (set(folder.get())) inode_ = status.st_ino;
}

}  // namespace nopspan::collector
