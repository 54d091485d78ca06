// SPDX-License-Identifier: Apache-2.0
// Reads /proc/PID/maps.
#pragma once

#include "host/probe_file.h"
#include "host/process_reader.h"

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// A mapping of a file.
struct Mapping {
  std::uint64_t start = 0, end = 0, offset = 0;
  std::uint64_t device = 0, inode = 0;  // as the kernel's file system has them; stat(2) may report others
  bool is_writable = false, is_executable = false, is_private = false;
  std::string_view path;  // as in /proc: a line feed is \012, and a deleted file's path ends with " (deleted)"
};

// The mappings of files in a process, as of one read.
class Mappings {
 public:
  explicit Mappings(const Target& process);
  // 0 or an errno value. EACCES: not permitted. ESRCH, ENOENT: the process is gone. ETIMEDOUT, EAGAIN:
  // process_reader.h. EOVERFLOW: the process has more than 4 MiB of text for them, of which the first part was read.
  [[nodiscard]] int error() const { return error_; }
  // The number of all mappings, also of those that are of no file.
  [[nodiscard]] std::uint64_t all() const { return all_; }
  // The files of which the process maps a page more than kFewMappings times, or to whose mappings an attach would take
  // long because of all others (kFewSteps).
  struct Crowd {
    FileId id;                   // if the file cannot be looked at, only the numbers in /proc/PID/maps
    std::uint64_t mappings = 0;  // of the page that has most
  };
  static constexpr std::uint64_t kFewMappings = 16;
  // For each mapping of a page, the kernel may look at all mappings of the process.
  static constexpr std::uint64_t kFewSteps = 32768;
  [[nodiscard]] const std::vector<Crowd>& crowds() const { return crowds_; }
  // Calls `on_mapping` for each of them, until it returns false. `path` is valid as long as this object exists.
  void for_each(const std::function<bool(const Mapping&)>& on_mapping) const;

 private:
  int error_;
  std::uint64_t all_ = 0;
  std::vector<Crowd> crowds_;
  std::string text_;
};

// The same for one use. Returns the error.
int for_each_mapping(const Target& process, const std::function<bool(const Mapping&)>& on_mapping);

// Replaces the escapes in a path of /proc/PID/maps.
std::string unescaped(std::string_view path);
// Removes " (deleted)" from the end. Returns whether it was there.
bool take_deleted(std::string_view& path);

}  // namespace nopspan::collector
