// SPDX-License-Identifier: Apache-2.0
// /proc/PID/maps.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace nopspan::collector {

// A mapping of a file.
struct Mapping {
  std::uint64_t start = 0, end = 0, offset = 0;
  std::uint64_t device = 0, inode = 0;  // as the kernel's file system has them: stat(2) may tell of other ones
  bool is_writable = false, is_executable = false;
  std::string_view path;  // as /proc has it: a line feed is \012, and what was deleted ends with " (deleted)"
};

// Calls `on_mapping` for each mapping of a file, until it returns false. Returns 0, or the error number (EACCES: not
// allowed; ESRCH, ENOENT: the process is gone). In constant memory, whatever the process maps.
int for_each_mapping(std::uint32_t pid, const std::function<bool(const Mapping&)>& on_mapping);

// A path as /proc has it, without its escapes.
std::string unescaped(std::string_view path);
// Takes " (deleted)" off the end; whether it was there.
bool take_deleted(std::string_view& path);

}  // namespace nopspan::collector
