// SPDX-License-Identifier: Apache-2.0
// The files that were looked at: those with probes, which are held open, and the many without.
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

  // The file behind a mapping; null if it has no probes or cannot be looked at: `why_not` says why, "" if there is
  // nothing to say.
  ProbeFilePointer find(std::uint32_t pid, const Mapping& mapping, const std::string& path, std::string& why_not);
  // A file by its name, which stays although nobody maps it. Throws Failure.
  void add(const std::string& path);
  // Looks at what appeared in watched folders.
  void look_at_watched();
  // Some process still maps it.
  void note_mapped(const ProbeFilePointer& file, Clock::time_point now);
  // What came and went since the last call.
  Host::Changes changes(Clock::time_point now);

  [[nodiscard]] std::vector<Host::Found> files() const;
  [[nodiscard]] int watch_fd() const { return watch_.fd(); }

 private:
  struct File {
    Host::Found found;
    FileId id;  // as last seen
    Clock::time_point mapped_at;
    bool is_added = false;    // by its name
    bool is_watched = false;  // the folder is, that its path is in
  };

  File* known(const FileId& id);
  File& keep(const ProbeFilePointer& file, const std::string& path, std::uint32_t pid);
  [[nodiscard]] static bool may_come_back(const File& file);
  void drop(std::size_t index);

  std::vector<File> files_;
  Host::Changes changes_;
  FileWatch watch_;
  // Files without probes, two generations of them: what was not asked for in one is forgotten.
  std::unordered_map<FileId, std::string, FileIdHash> without_, old_without_;
};

}  // namespace nopspan::collector
