// SPDX-License-Identifier: Apache-2.0
#include "span_body.h"

#include <algorithm>
#include <vector>

#include "failure.h"
#include "values.h"

namespace cases {
namespace {

// "nested" is one span, or a list of consecutive spans.
std::vector<Json> nested_spans(const Json& body) {
  const Json nested = optional(body, "nested");
  if (nested.is_null()) return {};
  if (nested.is_array()) return {nested.begin(), nested.end()};
  return {nested};
}

}  // namespace

void SpanBody::check(const Json& body, const std::function<void(const Json&)>& check_nested) {
  only_keys(body, "a body", {"return", "stop_metadata", "extras", "extra_measurements", "fail", "nested"});
  if (body.contains("stop_metadata") && body.contains("extras")) {
    throw Inexpressible("a body with both stop_metadata and extras");
  }
  if (body.contains("fail")) {
    if (body.contains("return")) throw Inexpressible("a body that both returns and fails");
    check_failure(body["fail"]);
  }
  check_metadata(optional(body, "stop_metadata"));
  check_metadata(optional(body, "extras"));
  check_measurements(optional(body, "extra_measurements"));
  for (const Json& nested : nested_spans(body)) check_nested(nested);
}

bool SpanBody::ends_thread(const Json& body) {
  if (body.contains("fail") && body["fail"]["class"] == "exit") return true;
  const std::vector<Json> nested = nested_spans(body);
  return std::any_of(nested.begin(), nested.end(), [](const Json& span) { return ends_thread(span["body"]); });
}

Json SpanBody::run() const {
  Json returned;
  for (const Json& nested : nested_spans(body_)) returned = run_nested_(nested);
  if (body_.contains("fail")) fail(body_["fail"]);
  return body_.contains("return") ? body_["return"] : returned;
}

void SpanBody::add_to_stop(nopspan::Fields& fields) const {
  set_metadata(fields, optional(body_, body_.contains("extras") ? "extras" : "stop_metadata"));
  set_measurements(fields, optional(body_, "extra_measurements"));
}

}  // namespace cases
