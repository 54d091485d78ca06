// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

namespace nopspan::collector {

// The path of a process's cgroup in the unified hierarchy, or in systemd's where there is no unified one, from the text
// of /proc/PID/cgroup. "" if neither is there.
std::string cgroup_path(std::string_view text);

// The id of the container that a cgroup belongs to, as docker, containerd, CRI-O, podman, Kubernetes and ECS spell
// their paths, or the name of an LXC container. "" outside containers.
std::string container_id(std::string_view cgroup);

}  // namespace nopspan::collector
