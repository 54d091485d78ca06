// SPDX-License-Identifier: Apache-2.0
// Reads /proc/PID/maps.
#pragma once

#include "base/open_file.h"
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

// Replaces the escapes in a path of /proc/PID/maps.
std::string unescaped(std::string_view path);
// Removes " (deleted)" from the end. Returns whether it was there.
bool take_deleted(std::string_view& path);

// Finds and opens the file behind a mapping of another process.

// The file is found through /proc/PID/map_files if that is allowed, otherwise by its name in the process's root. Both
// may block, so this runs in the child that reads (process_reader.h). Files on FUSE are not opened, because any user
// can be the server of such a file system and may never answer: to close the file may block, and an attach to it would
// block every fork on this host.
class MappedFile {
 public:
  // Identifies the file without opening it. Returns false if that is not possible; why_not() then has the reason, or ""
  // if the mapping or the process is gone or the file is not a regular file.
  bool find(std::uint32_t pid, const Mapping& mapping);
  [[nodiscard]] const FileId& id() const { return id_; }
  [[nodiscard]] const std::string& why_not() const { return why_not_; }

  // Opens the file that find() found. Empty if that is not possible; why_not() then has the reason, or "" if the file
  // is gone.
  OpenFile open(std::uint32_t pid, const Mapping& mapping);

 private:
  enum class Place : std::uint8_t { found, nowhere, irregular, forbidden };
  Place look_at(std::string path);
  // Whether the file that was found by its name is the mapped one.
  [[nodiscard]] bool is_of(std::uint32_t pid, const Mapping& mapping) const;
  bool may_be_touched(std::uint32_t pid, const Mapping& mapping);

  std::string path_;
  FileId id_;
  bool has_attributes_ = false;  // the file system has attributes that FUSE does not have
  std::string why_not_;
};

}  // namespace nopspan::collector
