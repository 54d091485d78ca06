// SPDX-License-Identifier: Apache-2.0
// Describes the exception that a catch (...) has caught.
#pragma once

#include <nopspan/event.h>

#include <cstddef>
#include <string>

namespace nopspan::detail {

// True if the caught exception is a thread exit, a cancellation or an exception of another language. Such an exception
// must not be rethrown inside a helper, because that aborts the program, and it must not be swallowed.
bool is_thread_exit() noexcept;

// The address of the runtime's count of uncaught exceptions on the calling thread. Reading it replaces
// std::uncaught_exceptions(), which makes two calls. The address is valid until the thread exits.
const unsigned* exceptions_in_flight() noexcept;

// Names of more characters are not demangled, because __cxa_demangle() uses up to 370 bytes of stack for each
// character.
inline constexpr std::size_t kMostDemangled = 128;
std::string demangle(const char* mangled);

struct Caught {
  const char* kind = "exit";  // "error" (a std::exception), "throw" (any other C++ exception) or "exit"
  std::string type;           // demangled, unless it is long; empty for exit
  std::string message;        // what(), or the thrown string
  Value cause;  // the reason of the exception nested in it (std::throw_with_nested()); null if there is none
};
Caught describe_caught() noexcept;

// The value of the metadata key `reason`: {type, message}, and `cause` if there is one.
Value reason_of(const Caught& caught);

}  // namespace nopspan::detail
