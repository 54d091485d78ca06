// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// The path of a process's cgroup (version 2) in the text of /proc/PID/cgroup. "" if there is none.
std::string cgroup_path(std::string_view text);

// The id of the container that a cgroup belongs to, as docker, containerd, CRI-O, podman, Kubernetes and ECS spell
// their paths, or the name of an LXC container. "" outside containers.
std::string container_id(std::string_view cgroup);

}  // namespace nopspan::collector
