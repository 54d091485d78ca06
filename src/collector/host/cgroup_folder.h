// SPDX-License-Identifier: Apache-2.0
// Where a cgroup is, as --cgroup names it.
#pragma once

#include "base/open_file.h"

#include <cstdint>
#include <string>

namespace nopspan::collector {

// A cgroup is a path, with or without "/sys/fs/cgroup", or the beginning of a container's id.

// The cgroup that is named so as /proc/PID/cgroup has it: of a path in a hierarchy of this host, wherever that is
// mounted, and of one with "." or two slashes in it too. What has no slash stays as it is.
std::string cgroup_named(const std::string& wanted);
// Throws Failure with kMisused if there is none, or more than one container's id begins so. Nothing is wanted by "",
// and nothing can be told where no hierarchy is mounted.
void require_cgroup(const std::string& wanted);
// Opens its folder in the unified hierarchy. Throws Failure like the one above, and where that is not mounted.
OpenFile open_cgroup(const std::string& wanted);

// The number that the kernel's programs know a cgroup by. `path` is as /proc/PID/cgroup has it. 0 if it cannot be told.
std::uint64_t cgroup_id(const std::string& path);
// Whether there are such numbers for what --cgroup names: one of systemd's old hierarchy has none, and its processes
// may be anywhere in the unified one.
bool has_number(const std::string& wanted);
// The other way round, which looks at all cgroups. "" if it is gone, and of the root where there are hierarchies beside
// the unified one: then processes may all be in that one's root.
std::string path_of_cgroup(std::uint64_t id);

}  // namespace nopspan::collector
