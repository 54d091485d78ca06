// SPDX-License-Identifier: Apache-2.0
// The work inside a span of a case: `return` with `stop_metadata` (or `extras`) and `extra_measurements`, `fail`,
// `nested`.
#ifndef NOPSPAN_TESTS_CASES_SPAN_BODY_H
#define NOPSPAN_TESTS_CASES_SPAN_BODY_H

#include <nopspan/fields.h>
#include <nopspan/span.h>

#include <functional>

#include "json.h"

namespace cases {

// A callable for nopspan::span() or a catalogue's span.
class SpanBody {
 public:
  // Runs a nested span: the object under "nested".
  using RunNested = std::function<Json(const Json& call)>;

  SpanBody(const Json& body, RunNested run_nested) : body_(body), run_nested_(std::move(run_nested)) {}

  // Rejects a body that cannot be run. Calls `check_nested` with every nested span.
  static void check(const Json& body, const std::function<void(const Json&)>& check_nested);
  // Whether the body, or a span nested in it, ends the thread.
  static bool ends_thread(const Json& body);

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

}  // namespace cases

#endif  // NOPSPAN_TESTS_CASES_SPAN_BODY_H
