// SPDX-License-Identifier: Apache-2.0
// Files to write: a file that replaces another one as a whole, in a folder where other users may have placed something
// else, and pipes and devices.
#pragma once

#include "base/failure.h"
#include "base/open_file.h"

#include <sys/types.h>

#include <string>

namespace nopspan::collector {

enum class FileKind { none, regular, folder, link, other };
// Returns the kind of the file at `path`, without following a symbolic link.
FileKind kind_of_file(const std::string& path);

// Throws Failure if there is a named pipe of another user, who could read what is written.
void refuse_foreign_pipe(const std::string& path);

Failure file_exists(const std::string& path);

// Opens the pipe, the device or the descriptor of this process (/dev/fd/63 of the shell's >(…)) that is at `path`, for
// private data, and waits for the reader of a pipe until a signal. Returns an empty object if a NewFile can be
// published there. Throws Failure if not, and if there is something that may not be replaced.
OpenFile open_existing_output(const std::string& path, bool may_replace);

// A new file without a name, which publish() places at its path. A killed process therefore leaves nothing. If the file
// system does not support this, the file has a random name that begins with a dot.
class NewFile {
 public:
  // Creates the file in the folder of `path`. The umask restricts `mode`.
  NewFile(std::string path, mode_t mode);
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;
  ~NewFile();  // removes the file, unless it was published

  // The errno value if the file could not be created, otherwise 0.
  [[nodiscard]] int error() const { return error_; }
  [[nodiscard]] int fd() const { return file_.get(); }
  // Makes the file appear at `path`, once. If another file is there, the result is EEXIST, or it is replaced
  // if `may_replace`. A symbolic link is replaced itself. Returns 0 or an errno value.
  int publish(bool may_replace);

 private:
  // Calls `create` with random names in the folder until a name is free. Returns 0 or an errno value.
  template <class Create>
  int name_it(Create create);

  std::string path_, name_;  // `name_` is the path of a file with a random name; "": it has none
  OpenFile file_;
  int error_ = 0;
};

}  // namespace nopspan::collector
