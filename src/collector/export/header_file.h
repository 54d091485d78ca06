// SPDX-License-Identifier: Apache-2.0
// The file of --header-file: headers with secrets, which are then neither on the command line nor in the environment.
#pragma once

#include "model/service.h"

#include <sys/stat.h>

#include <string>

namespace nopspan::collector {

// Has "name: value" in each line. Empty lines, and lines that begin with #, are ignored. Other users must not be able
// to read or change it: it must be this user's with mode 0600, or root's with mode 0640, or with less.
class HeaderFile {
 public:
  // Throws Failure (kUsageError) if the file cannot be read, or if a line or the mode is wrong.
  explicit HeaderFile(std::string path);

  [[nodiscard]] const NamesAndValues& headers() const { return headers_; }
  // Reads the file again if it has been changed or replaced. A pipe is read only once. Returns whether there are other
  // headers now. Throws like the constructor, once for each change, and keeps the headers then.
  bool read_if_changed();

 private:
  std::string path_;
  bool is_regular_ = false;
  struct stat seen_ {};  // before the file was read; all 0: it did not exist
  NamesAndValues headers_;
};

}  // namespace nopspan::collector
