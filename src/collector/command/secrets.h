// SPDX-License-Identifier: Apache-2.0
// Keeps secrets out of /proc/PID/cmdline, which all users can read, and out of /proc/PID/environ. Both show the memory
// in which the kernel placed them when the program started. Children have a copy of it.
#pragma once

#include <string>
#include <vector>

namespace nopspan::collector {

// Copies the arguments, and overwrites in the originals the values of headers, and what a URL has of a user, a password
// and a query.
std::vector<std::string> take_arguments(int argc, char** argv);

// Moves the variables that may contain secrets to memory that only this program can read: headers and endpoints of
// OTLP, and proxies. Both functions must be called while the program has one thread.
void hide_secret_variables();
// Removes them from a program or a child that does not send anything.
void forget_secret_variables();

}  // namespace nopspan::collector
