// SPDX-License-Identifier: Apache-2.0
// allm_spans.json: spans, execute, ids and prefix of the llm catalogue.
#include <nopspan/context.h>
#include <nopspan/llm.h>

#include <algorithm>
#include <string>

#include "failure.h"
#include "listing.h"
#include "recorded_events.h"
#include "runner.h"
#include "span_body.h"
#include "values.h"

namespace cases {
namespace {

namespace llm = nopspan::llm;

// --- Parsing

void check_span(const Json& call) {
  only_keys(call, "a span", {"op", "name", "start_metadata", "body"});
  if (call.contains("op") && call["op"] != "span") throw Inexpressible("nested is no span: " + call["op"].dump());
  required_string(call, "a span", "name");
  check_metadata(optional(call, "start_metadata"));
  SpanBody::check(required(call, "a span", "body"), check_span);
}

void check_span_expectation(const Json& expect) {
  only_keys(expect, "the expectation of a span",
            {"returns", "raises", "events", "event_names", "body_called", "same_span_context",
             "span_context_on_all_events", "same_request_id"});
  if (expect.contains("returns") == expect.contains("raises")) {
    throw Inexpressible("a span returns or raises: " + expect.dump());
  }
  if (expect.contains("raises")) {
    only_keys(expect["raises"], "raises", {"class", "reason", "type", "message", "message_contains"});
  }
  RecordedEvents::check(expect);
}

void check_execute(const Json& when, const Json& expect) {
  only_keys(when, "execute", {"op", "suffix", "measurements", "metadata"});
  dotted_name(required(when, "execute", "suffix"));
  check_measurements(optional(when, "measurements"));
  check_metadata(optional(when, "metadata"));
  only_keys(expect, "the expectation of execute", {"returns", "events", "event_names"});
  RecordedEvents::check(expect);
}

// --- Running

Json run_span(const Json& call, bool& body_called) {
  const Json metadata = optional(call, "start_metadata");
  const SpanBody body(call["body"], [&](const Json& nested) { return run_span(nested, body_called); });
  return llm::span(
      call["name"].get<std::string>(), [&](nopspan::Fields& fields) { set_metadata(fields, metadata); },
      [&] {
        body_called = true;
        return body();
      });
}

// The value of a metadata key that all events share. Null if it differs or if there are no events.
Json on_all_events(const RecordedEvents& recorded, const char* key) {
  const std::vector<Delivery>& events = recorded.events();
  if (events.empty()) return nullptr;
  Json value = optional(events[0].metadata(), key);
  const bool same = std::all_of(events.begin(), events.end(),
                                [&](const Delivery& event) { return optional(event.metadata(), key) == value; });
  return same ? value : Json();
}

void compare_ids(const Json& expect, const RecordedEvents& recorded, Comparison& comparison) {
  if (expect.contains("same_span_context")) {
    comparison.add("same_span_context", expect["same_span_context"], !on_all_events(recorded, "span_id").is_null());
  }
  if (expect.contains("span_context_on_all_events")) {
    comparison.add("span_context_on_all_events", expect["span_context_on_all_events"],
                   on_all_events(recorded, "telemetry_span_context"));
  }
  if (expect.contains("same_request_id")) {
    comparison.add("same_request_id", expect["same_request_id"], on_all_events(recorded, "request_id"));
    for (const Delivery& event : recorded.events()) {
      comparison.add("the id of the request", expect["same_request_id"], event.request_id());
    }
  }
}

Mismatches compare_span(const Json& when, const Json& expect) {
  const RecordedEvents recorded(llm::event_names());
  bool body_called = false;
  const Outcome outcome = observe([&] { return run_span(when, body_called); }, SpanBody::ends_thread(when["body"]));
  Comparison comparison;
  if (expect.contains("raises")) {
    comparison.add("raises", expect["raises"], as_raised(outcome, expect["raises"]));
  } else if (outcome.raised) {
    comparison.add("raises", "no exception", outcome.failure_class + " " + outcome.type + ": " + outcome.message);
  } else {
    comparison.add("returns", expect["returns"], outcome.returned);
  }
  if (expect.contains("body_called")) comparison.add("body_called", expect["body_called"], body_called);
  if (body_called) comparison.add("raises what the body threw", true, outcome.same_exception);
  recorded.compare(expect, comparison);
  compare_ids(expect, recorded, comparison);
  Bindings bindings;
  return comparison.mismatches(bindings);
}

Mismatches compare_execute(const Json& when, const Json& expect) {
  const std::string suffix = dotted_name(when["suffix"]);
  const RecordedEvents recorded({"llm." + suffix});
  llm::execute(suffix, [&](nopspan::Fields& fields) {
    set_measurements(fields, optional(when, "measurements"));
    set_metadata(fields, optional(when, "metadata"));
  });
  Comparison comparison;
  // execute() returns nothing and cannot fail.
  if (expect.contains("returns")) comparison.add("returns", expect["returns"], "ok");
  recorded.compare(expect, comparison);
  Bindings bindings;
  return comparison.mismatches(bindings);
}

Mismatches compare_request_ids(const Json& when, const Json& expect) {
  std::vector<std::string> ids;
  for (unsigned i = times_of(when); i > 0; --i) ids.emplace_back(nopspan::make_request_id());
  return compare_listing(expect, ids);
}

Mismatches compare_prefix(const Json& expect) {
  Comparison comparison;
  comparison.add("returns", dotted_name(required(expect, "the expectation of event_prefix", "returns")),
                 std::string(llm::event_prefix()));
  Bindings bindings;
  return comparison.mismatches(bindings);
}

}  // namespace

std::vector<Check> run_allm_spans(const Json& one_case) {
  only_keys(one_case, "a case", {"id", "group", "source", "given", "when", "expect", "note", "tags"});
  const Json given = optional(one_case, "given");
  if (!given.is_string() && !given.empty()) throw Inexpressible("given: " + given.dump());
  const Json& when = required(one_case, "a case", "when");
  const Json& expect = required(one_case, "a case", "expect");
  const std::string op = required_string(when, "a case", "op");
  if (op == "span") {
    check_span(when);
    check_span_expectation(expect);
    return {{op, compare_span(when, expect)}};
  }
  if (op == "execute") {
    check_execute(when, expect);
    return {{op, compare_execute(when, expect)}};
  }
  if (op == "request_id") {
    only_keys(when, op, {"op", "times"});
    check_listing(expect);
    return {{op, compare_request_ids(when, expect)}};
  }
  if (op == "event_names") {
    only_keys(when, op, {"op"});
    check_listing(expect);
    return {{op, compare_listing(expect, llm::event_names())}};
  }
  if (op == "event_prefix") {
    only_keys(when, op, {"op"});
    only_keys(expect, "the expectation of event_prefix", {"returns"});
    return {{op, compare_prefix(expect)}};
  }
  throw Inexpressible("unknown operation \"" + op + "\"");
}

}  // namespace cases
