// SPDX-License-Identifier: Apache-2.0
#include "delivery.h"

#include "failure.h"
#include "values.h"

namespace cases {
namespace {

bool ends_with(std::string_view text, std::string_view end) {
  return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

}  // namespace

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
  Json in_reference_terms = seen;
  in_reference_terms["type"] = reference_type(seen["type"].get<std::string>());
  return in_reference_terms;
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
  Json all = {{"handler", handler_},
              {"event", event_name_},
              {"measurements", measurements_},
              {"metadata", as_metadata(optional(expected, "metadata"))},
              {"config", config_}};
  if (!expected.is_object()) return all;
  Json named = Json::object();
  for (const auto& [key, value] : all.items()) {
    if (expected.contains(key)) named[key] = value;
  }
  return named;
}

}  // namespace cases
