// SPDX-License-Identifier: Apache-2.0
// The cgroup of a process, its container, and the cgroup that --cgroup names. Only cgroup v2 is supported.
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// The path of the process's cgroup (version 2) from the text of /proc/PID/cgroup. "" if the text has none.
std::string cgroup_path(std::string_view text);

// The path as the host's first process has it, of one that /proc/PID/cgroup shows to this program. In a cgroup
// namespace, which container runtimes make, the latter is relative to this program's own cgroup: "/../../x". Unchanged
// if the host's hierarchy cannot be seen.
std::string cgroup_of_host(const std::string& path);

// The id of the container that a cgroup belongs to, or the name of an LXC container. Knows the paths of docker,
// containerd, CRI-O, podman, Kubernetes and ECS. "" outside containers.
std::string container_id(std::string_view cgroup);

// The cgroup that --cgroup names: by its path, with or without "/sys/fs/cgroup", or by the beginning of a container's
// id. Normalises a path to the form of /proc/PID/cgroup: without the mount point, "." and double slashes. A name
// without a slash is returned unchanged, because it may be the beginning of a container's id.
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
