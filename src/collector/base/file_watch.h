// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/open_file.h"

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace nopspan::collector {

// Watches folders for files that come into being there (inotify): a library that is upgraded is written beside the old
// one and then renamed.
class FileWatch {
 public:
  FileWatch();

  // Readable when appeared() has something to tell. -1: this host lets us watch nothing.
  [[nodiscard]] int fd() const { return fd_.get(); }

  // Watches the folder of `path` for files whose name begins as the name of `path` does, up to ".so" in it. As many
  // folders as are reasonable; returns false for one too many, and for one that cannot be watched.
  bool watch(const std::string& path);
  void forget(const std::string& path);
  [[nodiscard]] std::size_t size() const { return folders_.size(); }

  // The paths of files that were written or renamed to such a name since the last call.
  std::vector<std::string> appeared();

 private:
  struct Folder {
    std::string path;
    std::map<std::string, int, std::less<>> stems;  // and by how many they are watched
  };

  OpenFile fd_;
  std::map<int, Folder> folders_;
};

}  // namespace nopspan::collector
