// SPDX-License-Identifier: Apache-2.0
// The exception that ends a command.
#pragma once

#include <stdexcept>
#include <string>

namespace nopspan::collector {

// what() is a message for the user: what went wrong and what to do about it. main() prints it and returns
// `exit_status`.
class Failure : public std::runtime_error {
 public:
  static constexpr int kFailed = 1;
  static constexpr int kUsageError = 2;

  explicit Failure(const std::string& what, int status = kFailed) : std::runtime_error(what), exit_status(status) {}

  int exit_status;
};

}  // namespace nopspan::collector
