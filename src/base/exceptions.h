// SPDX-License-Identifier: Apache-2.0
// What is in flight inside a catch (...).
#pragma once

#include <nopspan/value.h>

#include <string>

namespace nopspan::detail {

// Thread exit, cancellation or another language's exception: never to be rethrown inside a helper, which would abort
// the program, and never to be swallowed.
bool is_thread_exit() noexcept;

// Where the runtime counts the exceptions in flight on the calling thread: what std::uncaught_exceptions() returns
// after two calls. The thread's for good.
const unsigned* exceptions_in_flight() noexcept;

struct Caught {
  const char* kind = "exit";  // error: a std::exception; throw: anything else; exit
  std::string type;           // demangled; empty for exit
  std::string message;        // what(), or the string that was thrown
};
Caught describe_caught() noexcept;

// The metadata `reason`: {type, message}.
Value reason_of(const Caught& caught);

}  // namespace nopspan::detail
