// SPDX-License-Identifier: Apache-2.0
// The work inside a span of a case, the failures that it causes, and how the call ends.
#ifndef NOPSPAN_TESTS_CASES_SPANS_H
#define NOPSPAN_TESTS_CASES_SPANS_H

#include <nopspan/fields.h>
#include <nopspan/span.h>

#include <functional>
#include <string>
#include <utility>

#include "matcher.h"
#include "shapes.h"

namespace cases {

// Fails as described, and never returns: class "error" (a std::exception), "throw" (any other thrown value) or "exit"
// (the thread ends).
[[noreturn]] void fail(const Json& failure);

// std::runtime_error is RuntimeError, and std::invalid_argument is ArgumentError. Other types keep their names.
std::string reference_type(const std::string& cpp_type);

// A callable for nopspan::span() or a catalogue's span: runs the nested spans, fails, or returns with `stop_metadata`
// (or `extras`) and `extra_measurements`.
class SpanBody {
 public:
  using RunNested = std::function<Json(const Json& call)>;

  SpanBody(const Json& body, RunNested run_nested) : body_(body), run_nested_(std::move(run_nested)) {}

  auto operator()() const {
    Json returned = run();
    return nopspan::result(std::move(returned), [this](nopspan::Fields& fields) { add_to_stop(fields); });
  }

 private:
  [[nodiscard]] Json run() const;
  void add_to_stop(nopspan::Fields& fields) const;

  const Json& body_;
  RunNested run_nested_;
};

// Checks a span and those nested in it. Each fits the shape.
void check_span(const Json& span, const std::string& shape);

// The outcome of a call.
struct Outcome {
  Json returned = nullptr;
  bool raised = false;
  bool is_other = false;  // the exception is not the object that fail() threw
  std::string failure_class = {};
  std::string type = {};     // in the references' notation
  std::string message = {};  // what() of a std::exception, or the thrown string
};

// Calls `work`, on a new thread if its body, or a span nested in it, ends the thread.
Outcome observe(const std::function<Json()>& work, const Json& body = Json::object());

// Compares with `raises` and `returns` of the expectation. If both are missing, the call must return.
void compare_outcome(const Json& expect, const Outcome& outcome, Comparison& comparison);

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_SPANS_H
