// SPDX-License-Identifier: Apache-2.0
#include "recorded_events.h"

#include <nopspan/registry.h>

#include <stdexcept>

#include "values.h"

namespace cases {
namespace {

constexpr const char* kId = "the cases' recorder";

bool is_exact(const Json& expected, const char* part) {
  return optional(expected, "exact") == Json(true) || optional(expected, std::string(part) + "_exact") == Json(true);
}

Json only_named(const Json& seen, const Json& expected) {
  Json named = Json::object();
  for (const auto& [key, value] : seen.items()) {
    if (expected.contains(key)) named[key] = value;
  }
  return named;
}

// The event in the notation of `expected`.
Json in_terms_of(const Delivery& event, const Json& expected) {
  Json seen = event.as_expected(expected);
  if (!expected.is_object()) return seen;
  for (const char* part : {"measurements", "metadata"}) {
    if (seen.contains(part) && !is_exact(expected, part)) seen[part] = only_named(seen[part], expected[part]);
  }
  for (const char* flag : {"exact", "measurements_exact", "metadata_exact"}) {
    if (expected.contains(flag)) seen[flag] = expected[flag];
  }
  return seen;
}

}  // namespace

RecordedEvents::RecordedEvents(const std::vector<std::string>& names) {
  const nopspan::Errc error =
      nopspan::attach_many(kId, names, [this](const nopspan::Event& event) { events_.emplace_back(kId, event); });
  if (error != nopspan::Errc::ok) throw std::runtime_error(nopspan::describe(error));
}

RecordedEvents::~RecordedEvents() { static_cast<void>(nopspan::detach(kId)); }

void RecordedEvents::check(const Json& expect) {
  for (const Json& event : optional(expect, "events")) {
    only_keys(event, "an event",
              {"event", "measurements", "metadata", "exact", "measurements_exact", "metadata_exact"});
    dotted_name(required(event, "an event", "event"));
  }
  for (const Json& name : optional(expect, "event_names")) dotted_name(name);
}

void RecordedEvents::compare(const Json& expect, Comparison& comparison) const {
  if (expect.contains("events")) {
    std::vector<Comparison::Seen> seen;
    for (const Delivery& event : events_) {
      seen.emplace_back([&event](const Json& expected) { return in_terms_of(event, expected); });
    }
    comparison.add_in_order("events", with_dotted_events(expect["events"]), seen);
  }
  if (expect.contains("event_names")) {
    Json expected = Json::array();
    Json seen = Json::array();
    for (const Json& name : expect["event_names"]) expected.push_back(dotted_name(name));
    for (const Delivery& event : events_) seen.push_back(event.event_name());
    comparison.add("event_names", expected, seen);
  }
}

}  // namespace cases
