// SPDX-License-Identifier: Apache-2.0
// Decides which processes a filter wants, by their pid and their cgroup.
#pragma once

#include "base/open_file.h"
#include "host/cgroup.h"
#include "model/filter.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

class ProcessFilter {
 public:
  // Throws Failure if the cgroup does not exist.
  explicit ProcessFilter(const Filter& filter);

  [[nodiscard]] bool has_pid(std::uint32_t pid) const;
  // Whether the process is wanted, by the cgroup in which it is now.
  [[nodiscard]] bool wants(std::uint32_t pid) const;
  // Opens the folder of the wanted cgroup if it is another cgroup than at the last call: a service that restarts gets a
  // new cgroup under the same path. Empty if it is the same, if it is gone, or if every cgroup is wanted.
  OpenFile open_if_new();

 private:
  std::vector<std::uint32_t> pids_;
  CgroupFolder cgroup_;
  std::uint64_t inode_ = 0;
};

}  // namespace nopspan::collector
