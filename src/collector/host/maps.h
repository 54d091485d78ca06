// SPDX-License-Identifier: Apache-2.0
// Reads /proc/PID/maps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// A mapping of a file.
struct Mapping {
  std::uint64_t start = 0, end = 0, offset = 0;
  std::uint64_t device = 0, inode = 0;  // as the kernel's file system has them; stat(2) may report others
  bool is_writable = false, is_executable = false;
  std::string_view path;  // as in /proc: a line feed is \012, and a deleted file's path ends with " (deleted)"
};

// Calls `on_mapping` for each mapping of a file, until it returns false. Returns 0 or an errno value (EACCES: not
// permitted; ESRCH, ENOENT: the process is gone). Uses constant memory, whatever the process maps.
int for_each_mapping(std::uint32_t pid, const std::function<bool(const Mapping&)>& on_mapping);

// Replaces the escapes in a path of /proc/PID/maps.
std::string unescaped(std::string_view path);
// Removes " (deleted)" from the end. Returns whether it was there.
bool take_deleted(std::string_view& path);

}  // namespace nopspan::collector
