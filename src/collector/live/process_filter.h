// SPDX-License-Identifier: Apache-2.0
// Which processes a filter wants, by pid and by the cgroup that they are in.
#pragma once

#include "base/open_file.h"
#include "host/cgroup_folder.h"
#include "model/filter.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

class ProcessFilter {
 public:
  // Throws Failure if there is no such cgroup.
  explicit ProcessFilter(const Filter& filter);

  [[nodiscard]] bool has_pid(std::uint32_t pid) const;
  // Whether the process is wanted in the cgroup where it is now.
  [[nodiscard]] bool wants(std::uint32_t pid) const;
  // The folder of the wanted cgroup, if it is another cgroup than the last time: a service that restarts gets a new one
  // under the same path. Nothing if it is the same, is gone, or every cgroup is wanted.
  OpenFile open_if_new();

 private:
  std::vector<std::uint32_t> pids_;
  CgroupFolder cgroup_;
  std::uint64_t inode_ = 0;
};

}  // namespace nopspan::collector
