// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/open_file.h"
#include "temporary_folder.h"

#include <fcntl.h>

#include <string>

// A path in a temporary folder. The folder and its contents are removed with this object.
class TemporaryFile {
 public:
  [[nodiscard]] std::string path() const { return folder_ / "file"; }
  [[nodiscard]] nopspan::collector::OpenFile open(int flags = O_RDONLY) const {
    return nopspan::collector::OpenFile(::open(path().c_str(), flags | O_CLOEXEC, 0600));
  }
  [[nodiscard]] std::string bytes() const { return nopspan::collector::contents_of(path()); }
  void set_bytes(const std::string& bytes) const { nopspan::collector::write_file(path(), bytes); }

 private:
  nopspan::collector::TemporaryFolder folder_;
};
