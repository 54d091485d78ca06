// SPDX-License-Identifier: Apache-2.0
// What /proc/PID/mountinfo says of file systems.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nopspan::collector {

struct Mount {
  std::string point;
  std::string type;     // "ext4"
  std::string options;  // its source and the options of the file system
};
// The mounts of a device, or all mounts, that a process sees. `pid` 0 means this program.
std::vector<Mount> mounts_of(std::uint32_t pid, std::optional<std::uint64_t> device = {});

// Whether no process runs a program on the device or has its working folder there, so that a file that is held open may
// be all that keeps its file system from being unmounted.
bool is_idle(std::uint64_t device);

}  // namespace nopspan::collector
