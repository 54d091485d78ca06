// SPDX-License-Identifier: Apache-2.0
#include "events.h"

#include <nopspan/registry.h>

#include <stdexcept>
#include <utility>

#include "spans.h"
#include "values.h"

namespace cases {
namespace {

constexpr const char* kRecorderId = "the cases' recorder";

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

// The event in the notation of `expected`.
Json in_terms_of(const Delivery& event, const Json& expected) {
  Json seen = event.as_expected(expected);
  if (!expected.is_object()) return seen;
  for (const char* part : {"measurements", "metadata"}) {
    const bool is_exact =
        optional(expected, "exact") == Json(true) || optional(expected, std::string(part) + "_exact") == Json(true);
    if (seen.contains(part) && !is_exact) seen[part] = only_named(seen[part], expected[part]);
  }
  for (const char* flag : {"exact", "measurements_exact", "metadata_exact"}) {
    if (expected.contains(flag)) seen[flag] = expected[flag];
  }
  return seen;
}

}  // namespace

Json only_named(const Json& seen, const Json& expected) {
  Json named = Json::object();
  for (const auto& [key, value] : seen.items()) {
    if (expected.contains(key)) named[key] = value;
  }
  return named;
}

Delivery::Delivery(std::string_view handler_id, const nopspan::Event& event)
    : handler_(handler_id),
      event_name_(event.name()),
      request_id_(event.request_id()),
      span_id_(event.span_id() == 0 ? "" : std::to_string(event.span_id())),
      measurements_(to_json(event.measurements().copy())),
      metadata_(to_json(event.metadata().copy())),
      config_(to_json(event.config())) {}

bool Delivery::of_span() const noexcept {
  return metadata_.contains("span_id") &&
         (ends_with(event_name_, ".start") || ends_with(event_name_, ".stop") || ends_with(event_name_, ".exception"));
}

Json Delivery::reason(const Json& expected) const {
  Json seen = optional(metadata_, "reason");
  const bool of_exception =
      (of_span() && ends_with(event_name_, ".exception")) || event_name_ == "telemetry.handler.failure";
  if (!of_exception) return seen;
  const bool is_exit = optional(metadata_, "kind") == "exit";
  const bool has_type = optional(seen, "type").is_string() || (is_exit && optional(seen, "type").is_null());
  if (!has_type || !optional(seen, "message").is_string()) return {{"not a map of type and message", seen}};
  if (is_exit) return expected;
  if (expected.is_string()) return seen["message"];
  seen["type"] = reference_type(seen["type"].get<std::string>());
  return seen;
}

Json Delivery::as_metadata(const Json& expected) const {
  Json seen = metadata_;
  if (of_span()) {
    for (const char* added : {"request_id", "span_id", "parent_id"}) {
      if (!expected.contains(added)) seen.erase(added);
    }
    const char* context = "telemetry_span_context";
    if (expected.contains(context) && !seen.contains(context)) seen[context] = span_id_;
  }
  if (expected.contains("reason") && seen.contains("reason")) seen["reason"] = reason(expected["reason"]);
  return with_dotted_events(std::move(seen));
}

Json Delivery::as_expected(const Json& expected) const {
  const Json all = {{"handler", handler_},
                    {"event", event_name_},
                    {"measurements", measurements_},
                    {"metadata", as_metadata(optional(expected, "metadata"))},
                    {"config", config_}};
  return expected.is_object() ? only_named(all, expected) : all;
}

void compare_names(const Json& expect, const std::vector<Delivery>& events, Comparison& comparison) {
  if (!expect.contains("event_names")) return;
  Json names = Json::array();
  for (const Delivery& event : events) names.push_back(event.event_name());
  comparison.add("event_names", dotted_names(expect["event_names"]), names);
}

RecordedEvents::RecordedEvents(const std::vector<std::string>& names) {
  const nopspan::Errc error = nopspan::attach_many(
      kRecorderId, names, [this](const nopspan::Event& event) { events_.emplace_back(kRecorderId, event); });
  if (error != nopspan::Errc::ok) throw std::runtime_error(nopspan::describe(error));
}

RecordedEvents::~RecordedEvents() { static_cast<void>(nopspan::detach(kRecorderId)); }

void RecordedEvents::compare(const Json& expect, Comparison& comparison) const {
  if (expect.contains("events")) {
    comparison.add_list("events", with_dotted_events(expect["events"]), events_, in_terms_of);
  }
  compare_names(expect, events_, comparison);
}

Log::Log() {
  nopspan::set_log_sink([this](nopspan::LogLevel level, std::string_view message) {
    lines.push_back({level, std::string(message)});
  });
}

Log::~Log() { nopspan::set_log_sink({}); }

}  // namespace cases
