// SPDX-License-Identifier: Apache-2.0
// Watches folders with inotify for files that appear in them. An upgraded library is written beside the old one and
// then renamed, so watching the file itself would miss it.
#pragma once

#include "base/open_file.h"

#include <sys/inotify.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// Watches the folders of the given paths. Not thread-safe.
class FileWatch {
 public:
  FileWatch();

  // Readable when appeared() has something to return. -1 if inotify is not available on this host.
  [[nodiscard]] int fd() const { return fd_.get(); }

  // The events that `add` must watch for.
  static constexpr std::uint32_t kEvents = IN_CLOSE_WRITE | IN_MOVED_TO | IN_ONLYDIR;
  // Adds a watch of a folder to an inotify instance. Returns its id, or -1.
  using Add = std::function<int(int inotify, const std::string& folder)>;
  // Watches the folder of `path` for files whose name begins like the name of `path`. If that name contains ".so", only
  // the part up to it is compared. Returns false if the folder cannot be watched, or if 256 folders are already
  // watched.
  bool watch(const std::string& path, const Add& add);
  void forget(const std::string& path);

  // The paths of the matching files that were written or renamed since the last call. If there are more than about a
  // thousand, the next call returns the others.
  std::vector<std::string> appeared();

 private:
  struct Folder {
    std::string path;
    std::map<std::string, int, std::less<>> stems;  // the number of paths that watch each
  };

  OpenFile fd_;
  std::map<int, Folder> folders_;
};

}  // namespace nopspan::collector
