// SPDX-License-Identifier: Apache-2.0
// Where a cgroup is, as --cgroup names it.
#pragma once

#include "base/open_file.h"

#include <cstdint>
#include <string>

namespace nopspan::collector {

// Opens the folder of a cgroup of the unified hierarchy: a path, with or without "/sys/fs/cgroup", or the beginning of
// a container's id. Throws Failure if there is none, or more than one begins so.
OpenFile open_cgroup(const std::string& wanted);

// The number that the kernel's programs know a cgroup by. `path` is as /proc/PID/cgroup has it. 0 if it cannot be told.
std::uint64_t cgroup_id(const std::string& path);

}  // namespace nopspan::collector
