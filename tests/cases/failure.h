// SPDX-License-Identifier: Apache-2.0
// Failures that a case asks for: class error (a std::exception), throw (any other thrown value) and exit (the thread
// ends).
#ifndef NOPSPAN_TESTS_CASES_FAILURE_H
#define NOPSPAN_TESTS_CASES_FAILURE_H

#include <functional>
#include <string>

#include "json.h"

namespace cases {

// Refuses what is no failure: {"class", "reason"}, or {"class": "error", "type", "message"} with a type of the
// references'.
void check_failure(const Json& failure);
// Does what it says; never returns.
[[noreturn]] void fail(const Json& failure);

// RuntimeError for std::runtime_error, ArgumentError for std::invalid_argument; others are their own.
std::string reference_type(const std::string& cpp_type);

// What became of a call.
struct Outcome {
  Json returned;
  bool raised = false;
  bool same_exception = true;  // what came out is the very exception that fail() threw
  std::string failure_class;
  std::string type;     // as the references name it
  std::string message;  // of an error what(), of a thrown string the string
};

// Calls `work`; on a thread of its own if that may end.
Outcome observe(const std::function<Json()>& work, bool may_end_thread);

// `outcome` in the terms in which `expected` ("raises" of a case) speaks.
Json as_raised(const Outcome& outcome, const Json& expected);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_FAILURE_H
