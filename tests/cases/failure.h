// SPDX-License-Identifier: Apache-2.0
// Failures that a case causes: class "error" (a std::exception), "throw" (any other thrown value) and "exit" (the
// thread ends).
#ifndef NOPSPAN_TESTS_CASES_FAILURE_H
#define NOPSPAN_TESTS_CASES_FAILURE_H

#include <functional>
#include <string>

#include "json.h"

namespace cases {

// Rejects an object that is not a failure. A failure is {"class", "reason"}, or {"class": "error", "type", "message"}
// with a type of the references.
void check_failure(const Json& failure);
// Fails as described. Never returns.
[[noreturn]] void fail(const Json& failure);

// std::runtime_error is RuntimeError, and std::invalid_argument is ArgumentError. Other types keep their names.
std::string reference_type(const std::string& cpp_type);

// The outcome of a call.
struct Outcome {
  Json returned;
  bool raised = false;
  bool same_exception = true;  // whether the exception is the object that fail() threw
  std::string failure_class;
  std::string type;     // in the references' notation
  std::string message;  // what() of a std::exception, or the thrown string
};

// Calls `work`, on a new thread if it may end the thread.
Outcome observe(const std::function<Json()>& work, bool may_end_thread);

// `outcome` in the notation of `expected` ("raises" of a case).
Json as_raised(const Outcome& outcome, const Json& expected);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_FAILURE_H
