// SPDX-License-Identifier: Apache-2.0
// allm_spans.json: spans, execute, ids and prefix of the llm catalogue.
#include <nopspan/context.h>
#include <nopspan/llm.h>

#include <algorithm>
#include <string>
#include <vector>

#include "events.h"
#include "runners.h"
#include "spans.h"
#include "values.h"

namespace cases {
namespace {

namespace llm = nopspan::llm;

Json run_llm_span(const Json& call, bool& body_called) {
  const Json metadata = optional(call, "start_metadata");
  const SpanBody body(call["body"], [&](const Json& nested) { return run_llm_span(nested, body_called); });
  return llm::span(
      call["name"].get<std::string>(), [&](nopspan::Fields& fields) { set_metadata(fields, metadata); },
      [&] {
        body_called = true;
        return body();
      });
}

// The value of a metadata key that all events share. Null if it differs or if there are no events.
Json on_all_events(const std::vector<Delivery>& events, const char* key) {
  if (events.empty()) return nullptr;
  Json value = optional(events[0].metadata(), key);
  const bool same = std::all_of(events.begin(), events.end(),
                                [&](const Delivery& event) { return optional(event.metadata(), key) == value; });
  return same ? value : Json();
}

Mismatches compare_llm_span(const Json& when, const Json& expect) {
  check_span(when, "llm span");
  const RecordedEvents recorded(llm::event_names());
  bool body_called = false;
  const Outcome outcome = observe([&] { return run_llm_span(when, body_called); }, when["body"]);
  Comparison comparison;
  compare_outcome(expect, outcome, comparison);
  recorded.compare(expect, comparison);
  const auto compare = [&](const char* key, const Json& seen) {
    if (expect.contains(key)) comparison.add(key, expect[key], seen);
  };
  compare("body_called", body_called);
  compare("same_span_context", !on_all_events(recorded.events(), "span_id").is_null());
  compare("span_context_on_all_events", on_all_events(recorded.events(), "telemetry_span_context"));
  compare("same_request_id", on_all_events(recorded.events(), "request_id"));
  for (const Delivery& event : recorded.events()) compare("same_request_id", event.request_id());
  return comparison.mismatches();
}

Mismatches compare_llm_execute(const Json& when, const Json& expect) {
  const std::string suffix = dotted_name(when["suffix"]);
  const RecordedEvents recorded({"llm." + suffix});
  llm::execute(suffix, [&](nopspan::Fields& fields) {
    set_measurements(fields, optional(when, "measurements"));
    set_metadata(fields, optional(when, "metadata"));
  });
  Comparison comparison;
  compare_outcome(expect, {"ok"}, comparison);  // execute() returns nothing and cannot fail
  recorded.compare(expect, comparison);
  return comparison.mismatches();
}

Mismatches compare_llm(const std::string& op, const Json& when, const Json& expect) {
  if (op == "span") return compare_llm_span(when, expect);
  check(when, "llm " + op);
  if (op == "execute") return compare_llm_execute(when, expect);
  if (op == "event_names") return compare_listing(expect, llm::event_names());
  if (op == "request_id") {
    std::vector<std::string> ids;
    for (int i = when.value("times", 1); i > 0; --i) ids.emplace_back(nopspan::make_request_id());
    return compare_listing(expect, ids);
  }
  Comparison comparison;
  comparison.add("returns", dotted_name(expect["returns"]), std::string(llm::event_prefix()));
  return comparison.mismatches();
}

}  // namespace

std::vector<Check> run_allm_spans(const Json& one_case) {
  check(one_case, "scenario");
  const std::string op = one_case["when"].value("op", "");
  check(one_case["expect"], "expect llm " + op);
  return {{op, compare_llm(op, one_case["when"], one_case["expect"])}};
}

}  // namespace cases
