// SPDX-License-Identifier: Apache-2.0
// The files that were examined. Files with probes are held open. For the many other files, only the identity is kept.
#pragma once

#include "base/file_watch.h"
#include "host/host.h"
#include "host/mapped_file.h"
#include "host/probe_file.h"

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace nopspan::collector {

class KnownFiles {
 public:
  using Clock = std::chrono::steady_clock;

  // The file behind a mapping. Null if it has no probes or cannot be examined; `why_not` then has the reason, or "" if
  // there is nothing to report.
  ProbeFilePointer find(std::uint32_t pid, const Mapping& mapping, const std::string& path, std::string& why_not);
  // Adds a file by its name. It is kept even if no process maps it. Throws Failure.
  void add(const std::string& path);
  // Examines the files that appeared in watched folders.
  void look_at_watched();
  // Records that a process still maps the file.
  void note_mapped(const ProbeFilePointer& file, Clock::time_point now);
  // The files that appeared or disappeared since the last call.
  Host::Changes changes(Clock::time_point now);

  [[nodiscard]] std::vector<Host::Found> files() const;
  [[nodiscard]] int watch_fd() const { return watch_.fd(); }

 private:
  struct File {
    Host::Found found;
    FileId id;  // its identity when last seen
    Clock::time_point mapped_at;
    bool is_added = false;    // by add()
    bool is_watched = false;  // its path's folder is watched
  };

  File* known(const FileId& id);
  File& keep(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid);
  [[nodiscard]] static bool may_come_back(const File& file);
  void drop(std::size_t index);

  std::vector<File> files_;
  Host::Changes changes_;
  FileWatch watch_;
  // Files without probes, with the reason why not. Two generations: a file that is not looked up during one generation
  // is forgotten.
  std::unordered_map<FileId, std::string, FileIdHash> without_, old_without_;
};

}  // namespace nopspan::collector
