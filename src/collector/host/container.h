// SPDX-License-Identifier: Apache-2.0
// Reads the paths of cgroups: the container that a process belongs to.
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// The path of the process's cgroup (version 2) from the text of /proc/PID/cgroup. "" if the text has none.
std::string cgroup_path(std::string_view text);

// The id of the container that a cgroup belongs to, or the name of an LXC container. Knows the paths of docker,
// containerd, CRI-O, podman, Kubernetes and ECS. "" outside containers.
std::string container_id(std::string_view cgroup);

}  // namespace nopspan::collector
