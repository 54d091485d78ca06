// SPDX-License-Identifier: Apache-2.0
// The exception that ends a command.
#pragma once

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <string>

namespace nopspan::collector {

// Whether an errno value says that no more files can be opened, by this process or on this host.
inline bool is_file_limit(int error) { return error == EMFILE || error == ENFILE; }

// what() is a message for the user: what went wrong and what to do about it. main() prints it and returns
// `exit_status`.
class Failure : public std::runtime_error {
 public:
  static constexpr int kFailed = 1;
  static constexpr int kUsageError = 2;

  explicit Failure(const std::string& what, int status = kFailed) : std::runtime_error(what), exit_status(status) {}

  // Of a file that the user named, by an errno value. The limit of open files is not the user's mistake.
  static int status_of(int error) { return is_file_limit(error) ? kFailed : kUsageError; }

  int exit_status;
};

// Describes an errno value. For the limit of open files, it says what to do.
inline std::string errno_text(int error) {
  if (!is_file_limit(error)) return std::strerror(error);
  return "too many open files: raise the limit of open files (ulimit -n, or LimitNOFILE= of the unit)";
}

}  // namespace nopspan::collector
