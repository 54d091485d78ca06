// SPDX-License-Identifier: Apache-2.0
// Decides which processes a filter wants, by their pid and their cgroup.
#pragma once

#include "host/cgroup.h"
#include "model/filter.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace nopspan::collector {

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

}  // namespace nopspan::collector
