// SPDX-License-Identifier: Apache-2.0
// Finds the cgroup that --cgroup names. The user gives its path, with or without "/sys/fs/cgroup", or the beginning of
// a container's id. Only cgroup v2 is supported.
#pragma once

#include <string>

namespace nopspan::collector {

// Normalises a path to the form of /proc/PID/cgroup: without the mount point, "." and double slashes. A name without a
// slash is returned unchanged, because it may be the beginning of a container's id.
std::string cgroup_named(const std::string& wanted);

struct CgroupFolder {
  std::string path;    // as /proc/PID/cgroup shows it
  std::string folder;  // the same with the mount point
};
// Throws Failure with kUsageError if cgroup v2 is not mounted, the cgroup does not exist, it is a cgroup v1 path, or
// the ids of several containers begin with `wanted`.
CgroupFolder find_cgroup(const std::string& wanted);
// Throws Failure under the same conditions as find_cgroup(). "" means every cgroup and never throws.
void require_cgroup(const std::string& wanted);

}  // namespace nopspan::collector
