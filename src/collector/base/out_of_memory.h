// SPDX-License-Identifier: Apache-2.0
// What the program says when it has no memory left.
#pragma once

#include <exception>
#include <string>

namespace nopspan::collector {

// The message of an exception, for the user.
std::string exception_text(const std::exception& error);

// From now on, if std::bad_alloc ends the program because nobody can catch it, such as in a thread or during the
// handling of another exception, the program says so and exits with status 1. Other exceptions still call abort().
void report_out_of_memory_at_the_end();

}  // namespace nopspan::collector
