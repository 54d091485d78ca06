// SPDX-License-Identifier: Apache-2.0
// Stack traces of exceptions, while capture_stacktraces() is on.
//
// How it works: when a catch clause runs, the calls that threw are gone from the stack. But before the C++ runtime
// unwinds the stack, it searches for a clause, and asks the type of each clause whether it catches the exception. The
// library defines the type of the clause `catch (const detail::AtThrow&)` (nopspan/detail/span_result.h). So it is
// asked while the calls that threw are still on the stack, notes them, and answers no. A `catch (...)` of the same try
// block then catches the exception.
#pragma once

#include <nopspan/event.h>

#include <atomic>
#include <cstdint>

namespace nopspan::detail {

extern std::atomic<bool> capturing_stacktraces;  // what capture_stacktraces() set

// What a thread has noted of an exception.
struct Thrown {
  static constexpr unsigned kMostFrames = 32;
  // noted: a clause of the library catches the exception, or has caught it. rethrown: that clause rethrows it, and it
  // is not known yet whether another such clause catches it.
  enum class State : std::uint8_t { none, noted, rethrown };

  State state;
  unsigned in_flight;  // exceptions in flight when it was thrown, with itself
  unsigned size;
  std::uintptr_t frames[kMostFrames];  // addresses of the calls, innermost first
};

// The value of the metadata key `stacktrace`: a list of texts, innermost first. Null while no stack traces are
// captured. If nothing was noted of the exception, the list begins at `caller`, a return address.
Value stacktrace_of_caught(const void* caller) noexcept;     // inside catch (...)
Value stacktrace_of_unwinding(const void* caller) noexcept;  // in a destructor that an exception has called

// True if this thread has noted an exception that a clause of the library has caught or will catch.
bool has_thrown() noexcept;

// Forgets the exception, which a clause of the library has caught and does not rethrow.
void forget_thrown() noexcept;

// Exists while a clause of the library rethrows an exception that was noted. If another such clause catches the
// exception, what was noted stays. The destructor runs when the runtime has found the next clause, before it unwinds
// the stack.
class Rethrowing {
 public:
  Rethrowing() noexcept;
  ~Rethrowing();
  Rethrowing(const Rethrowing&) = delete;
  Rethrowing& operator=(const Rethrowing&) = delete;
};

}  // namespace nopspan::detail
