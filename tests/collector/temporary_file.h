// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "open_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

// A path in a folder of its own, which goes with all that is in it.
class TemporaryFile {
 public:
  TemporaryFile() {
    std::string folder = "/tmp/nopspan-test-XXXXXX";
    if (::mkdtemp(folder.data()) != nullptr) folder_ = folder;
  }
  ~TemporaryFile() {
    for (const char* suffix : {"", ".1", ".2", ".3", ".4", ".5"}) ::unlink((path() + suffix).c_str());
    ::rmdir(folder_.c_str());
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;

  [[nodiscard]] std::string path() const { return folder_ + "/file"; }
  [[nodiscard]] nopspan::collector::OpenFile open(int flags = O_RDONLY) const {
    return nopspan::collector::OpenFile(::open(path().c_str(), flags | O_CLOEXEC, 0600));
  }
  [[nodiscard]] std::string bytes() const {
    std::ifstream in(path(), std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void set_bytes(const std::string& bytes) const { std::ofstream(path(), std::ios::binary) << bytes; }

 private:
  std::string folder_;
};
