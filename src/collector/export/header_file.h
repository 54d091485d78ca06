// SPDX-License-Identifier: Apache-2.0
// --header-file: headers with secrets, which are then neither on the command line nor in the environment.
#pragma once

#include "model/service.h"

#include <string>

namespace nopspan::collector {

// Reads "name: value" from each line. Empty lines, and lines that begin with #, are ignored. Throws Failure
// (kUsageError) if the file cannot be read, if a line has another form, or if other users can read or change the file:
// it must be this user's with mode 0600, or root's with mode 0640, or with less. It may be a pipe, so read it once.
NamesAndValues read_header_file(const std::string& path);

}  // namespace nopspan::collector
