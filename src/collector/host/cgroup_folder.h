// SPDX-License-Identifier: Apache-2.0
// Where a cgroup is, as --cgroup names it: by its path, with or without "/sys/fs/cgroup", or by the beginning of a
// container's id. Only cgroup v2 is known.
#pragma once

#include <string>

namespace nopspan::collector {

// A path as /proc/PID/cgroup would show it: without the mount point, "." and double slashes. A name without a slash
// may be the beginning of a container's id and is returned unchanged.
std::string cgroup_named(const std::string& wanted);

struct CgroupFolder {
  std::string path;    // as /proc/PID/cgroup shows it
  std::string folder;  // with the mount point
};
// Throws Failure with kUsageError if cgroup v2 is not mounted, there is no such cgroup, it is one of cgroup v1, or
// several containers' ids begin so.
CgroupFolder find_cgroup(const std::string& wanted);
// Throws Failure as find_cgroup(). "" is every cgroup.
void require_cgroup(const std::string& wanted);

}  // namespace nopspan::collector
