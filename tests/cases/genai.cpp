// SPDX-License-Identifier: Apache-2.0
// The files of the GenAI layer. Their functions have one input and one result:
// genai_attributes.json: metadata, and the attributes or the value that a function derives from it.
// genai_events.json: the span events that handlers receive. The typed setters emit them inside a span.
// genai_spans_metrics.json: names and status of spans, and the metrics that a span's end records.
#include <nopspan/event.h>
#include <nopspan/genai.h>
#include <nopspan/genai_spans.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runners.h"
#include "values.h"

namespace cases {
namespace {

namespace genai = nopspan::genai;
using nopspan::Value;

// --- Attributes

std::string own_key(const std::string& key) {
  constexpr std::string_view kTheirs = "req_llm.";
  return key.compare(0, kTheirs.size(), kTheirs) == 0 ? "nopspan." + key.substr(kTheirs.size()) : key;
}

// The attributes, with nopspan's prefix in place of req_llm's.
Json with_own_prefix(const Json& attributes) {
  if (!attributes.is_object()) throw Inexpressible("attributes are no object: " + attributes.dump());
  Json renamed = Json::object();
  for (const auto& [key, value] : attributes.items()) renamed[own_key(key)] = value;
  return renamed;
}

std::string type_of(const Json& value) {
  const auto is_string = [](const Json& item) { return item.is_string(); };
  if (value.is_array()) return std::all_of(value.begin(), value.end(), is_string) ? "string[]" : "list";
  if (value.is_number()) return value.is_number_float() ? "double" : "int";
  return value.is_boolean() ? "bool" : value.type_name();
}

// A copy of `seen`, in which a double that is within 1e-9 of the expected one is replaced by the expected one.
Json nearly(const Json& expected, Json seen) {
  if (expected.is_number_float() && seen.is_number_float()) {
    return std::abs(expected.get<double>() - seen.get<double>()) <= 1e-9 ? expected : seen;
  }
  if (expected.is_object() && seen.is_object()) {
    for (const auto& [key, value] : expected.items()) {
      if (seen.contains(key)) seen[key] = nearly(value, seen[key]);
    }
  } else if (expected.is_array() && seen.is_array()) {
    for (std::size_t i = 0; i < std::min(expected.size(), seen.size()); ++i) seen[i] = nearly(expected[i], seen[i]);
  }
  return seen;
}

// An error {"$exception": …} or {"$map": …}. Both are maps in nopspan.
Json as_map(const Json& error) {
  if (!error.is_object() || error.size() != 1) return error;
  if (error.contains("$map")) return error["$map"];
  if (!error.contains("$exception")) return error;
  check(error["$exception"], "exception");
  return error["$exception"];
}

// The metadata as the functions expect it. native_unit is omitted, because nopspan's unit is always ns.
Value to_metadata(const Json& input) {
  Json metadata = input;
  if (metadata.is_object() && metadata.contains("error")) metadata["error"] = as_map(metadata["error"]);
  check(metadata, "metadata");
  metadata.erase("native_unit");
  return to_value(metadata);
}

void compare_attributes(const Json& expected, const Value& seen, Comparison& comparison) {
  const Json attributes = to_json(seen);
  const Json wanted = with_own_prefix(expected["attributes"]);
  comparison.add("attributes", wanted, nearly(wanted, attributes));
  comparison.add("number of attributes", wanted.size(), seen.as_map().size());
  if (expected.contains("types")) {
    Json types = Json::object();
    for (const auto& [key, value] : attributes.items()) types[key] = type_of(value);
    comparison.add("types", with_own_prefix(expected["types"]), types);
  }
  if (expected.contains("key_order")) {
    Json wanted_keys = Json::array();
    for (const Json& key : expected["key_order"]) {
      wanted_keys.push_back(key.is_string() ? Json(own_key(key.get<std::string>())) : key);
    }
    Json keys = Json::array();
    for (const auto& item : attributes.items()) keys.push_back(item.key());
    comparison.add("key_order", wanted_keys, keys);
  }
}

// --- Values

template <auto function>
Value of_metadata(const Json& input) {
  return function(to_metadata(input));
}

// Nothing, or the argument itself.
Value present(const Json& input) {
  check(input, "present");
  const Value value = to_value(input["value"]);
  const Value* kept = genai::present(value);
  if (kept == nullptr) return Value::map({{"absent", true}});
  return Value::map({{kept == &value ? "kept" : "copied", *kept}});
}

Value span_name(const Json& input) {
  check(input, "span_name");
  const auto text = [&](const char* key) {
    return input[key].is_null() ? nopspan::Text() : nopspan::Text(input[key].get_ref<const std::string&>());
  };
  return genai::span_name(text("operation"), text("model_id"));
}

template <auto record>
Value metrics(const Json& input) {
  check(input, "metrics");
  const std::int64_t duration = input["duration_ns"].is_null() ? -1 : input["duration_ns"].get<std::int64_t>();
  Value::List list;
  for (genai::Metric& metric : record(to_metadata(input["metadata"]), duration)) {
    list.push_back(
        Value::map({{"name", metric.name},
                    {"unit", metric.unit},
                    {"value", std::move(metric.value)},
                    {"boundaries", Value::List(metric.boundaries, metric.boundaries + metric.boundary_count)},
                    {"attributes", std::move(metric.attributes)}}));
  }
  return list;
}

// Expected metrics with nopspan's keys. Boundaries are doubles, even if they are written as integers.
Json own_metrics(Json value) {
  if (!value.is_array()) return value;
  for (Json& metric : value) {
    if (!metric.is_object()) continue;
    if (metric.contains("attributes")) metric["attributes"] = with_own_prefix(metric["attributes"]);
    if (!metric.contains("boundaries")) continue;
    for (Json& boundary : metric["boundaries"]) {
      if (boundary.is_number()) boundary = boundary.get<double>();
    }
  }
  return value;
}

struct Function {
  std::string_view name;
  Value (*call)(const Json& input);
  bool gives_attributes = false;
};

// Compares what one of the functions makes of the input.
template <std::size_t N>
std::vector<Check> run_function(const Function (&functions)[N], const Json& one_case) {
  check(one_case, "genai");
  const Json& expected = one_case["expected"];
  for (const Function& function : functions) {
    if (function.name != one_case["function"]) continue;
    check(expected, function.gives_attributes ? "expected attributes" : "expected value");
    const Value seen = function.call(one_case["input"]);
    Comparison comparison;
    if (function.gives_attributes) {
      compare_attributes(expected, seen, comparison);
    } else {
      const Json wanted = own_metrics(expected["value"]);
      comparison.add("value", wanted, nearly(wanted, to_json(seen)));
    }
    return {{std::string(function.name), comparison.mismatches()}};
  }
  throw Inexpressible("unknown function " + one_case["function"].dump());
}

// --- Events

// Null means that a field is not set.
template <class Set>
void with_text(const Json& payload, const char* key, const Set& set) {
  if (!optional(payload, key).is_null()) set(payload[key].get_ref<const std::string&>());
}

template <class Set>
void with_number(const Json& payload, const char* key, const Set& set) {
  const Json number = optional(payload, key);
  if (number.is_number_float()) {
    set(number.get<double>());
  } else if (!number.is_null()) {
    set(number.get<std::int64_t>());
  }
}

// These set what nopspan has a setter for. Other fields are ignored, as in the reference.
void set_fields(genai::PromptSentFields& fields, const Json& payload) {
  with_text(payload, "model", [&](const std::string& text) { fields.model(text); });
  with_number(payload, "promptTokens", [&](auto number) { fields.prompt_tokens(number); });
  with_number(payload, "messageCount", [&](auto number) { fields.message_count(number); });
  with_text(payload, "operation", [&](const std::string& text) { fields.operation(text); });
}

void set_fields(genai::ResponseReceivedFields& fields, const Json& payload) {
  with_text(payload, "model", [&](const std::string& text) { fields.model(text); });
  with_number(payload, "promptTokens", [&](auto number) { fields.prompt_tokens(number); });
  with_number(payload, "completionTokens", [&](auto number) { fields.completion_tokens(number); });
  with_number(payload, "totalTokens", [&](auto number) { fields.total_tokens(number); });
  if (optional(payload, "finishReasons").is_null()) return;
  std::vector<nopspan::Text> reasons;
  for (const Json& reason : payload["finishReasons"]) reasons.emplace_back(reason.get_ref<const std::string&>());
  fields.finish_reasons(reasons.data(), reasons.size());
}

void set_fields(genai::RetryFields& fields, const Json& payload) {
  with_text(payload, "reason", [&](const std::string& text) { fields.reason(text); });
  with_number(payload, "delayMs", [&](auto number) { fields.delay_ms(number); });
  with_number(payload, "statusCode", [&](auto number) { fields.status_code(number); });
}

void set_fields(genai::ToolCallFields& fields, const Json& payload) {
  with_text(payload, "toolCallId", [&](const std::string& text) { fields.tool_call_id(text); });
  with_text(payload, "arguments", [&](const std::string& text) { fields.arguments(text); });
}

void set_fields(genai::StreamFirstTokenFields& fields, const Json& payload) {
  with_number(payload, "tokensSoFar", [&](auto number) { fields.tokens_so_far(number); });
}

template <const auto& event, class EventFields>
void emit(const Json& payload) {
  if (payload.is_null()) return event();
  event([&](EventFields& fields) { set_fields(fields, payload); });
}

void emit_retry(const Json& payload) {
  if (optional(payload, "attempt").is_null()) throw Inexpressible("no attempt");
  with_number(payload, "attempt", [&](auto attempt) {
    genai::retry(attempt, [&](genai::RetryFields& fields) { set_fields(fields, payload); });
  });
}

void emit_tool_call(const Json& payload) {
  if (optional(payload, "toolName").is_null()) throw Inexpressible("no toolName");
  with_text(payload, "toolName", [&](const std::string& name) {
    genai::tool_call(name, [&](genai::ToolCallFields& fields) { set_fields(fields, payload); });
  });
}

struct Emitter {
  std::string_view function;
  std::string_view event;
  void (*emit)(const Json& payload);
};

constexpr Emitter kEmitters[] = {
    {"prompt_sent", genai::prompt_sent.name(), emit<genai::prompt_sent, genai::PromptSentFields>},
    {"response_received", genai::response_received.name(),
     emit<genai::response_received, genai::ResponseReceivedFields>},
    {"retry", genai::retry.name(), emit_retry},
    {"tool_call", genai::tool_call.name(), emit_tool_call},
    {"stream_first_token", genai::stream_first_token.name(),
     emit<genai::stream_first_token, genai::StreamFirstTokenFields>},
};

void emit_event(const Json& function, const Json& payload) {
  if (!payload.is_null()) check(payload, "payload");
  for (const Emitter& emitter : kEmitters) {
    if (emitter.function == function) return emitter.emit(payload);
  }
  throw Inexpressible("unknown function " + function.dump());
}

struct SpanEvent {
  std::string name;
  Value metadata;
  std::uint64_t span_id;
};

// The events of a case and of the span around them, as handlers received them.
struct AroundEvents {
  std::vector<SpanEvent> events;
  Json start, stop;
  nopspan::Status status = nopspan::Status::ok;
  std::uint64_t span_id = 0;
};

AroundEvents emit_events(const Json& calls) {
  static constexpr const char* kId = "cases.genai_events";
  AroundEvents seen;
  std::vector<std::string> names = {"cases.around.start", "cases.around.stop"};
  for (const Emitter& emitter : kEmitters) names.emplace_back(emitter.event);
  static_cast<void>(nopspan::attach_many(kId, names, [&](const nopspan::Event& event) {
    if (event.name() == "cases.around.start") {
      seen.start = to_json(event.metadata().copy());
    } else if (event.name() == "cases.around.stop") {
      seen.stop = to_json(event.metadata().copy());
      seen.status = event.status();
    } else {
      seen.events.push_back({std::string(event.name()), event.metadata().copy(), event.span_id()});
    }
  }));
  try {
    const nopspan::Span span("cases.around");
    seen.span_id = span.context().span_id();
    for (const Json& call : calls) emit_event(call["call"], call["payload"]);
  } catch (...) {
    static_cast<void>(nopspan::detach(kId));
    throw;
  }
  static_cast<void>(nopspan::detach(kId));
  return seen;
}

void compare_events(const Json& expected, const std::vector<SpanEvent>& seen, Comparison& comparison) {
  if (!expected.contains("events")) {
    if (seen.empty()) return;  // the count already reports this
    comparison.add("name", expected["name"], seen[0].name);
    return compare_attributes(expected, seen[0].metadata, comparison);
  }
  Json events = Json::array();
  for (const SpanEvent& event : seen) events.push_back({event.name, to_json(event.metadata)});
  Json wanted = Json::array();
  for (const Json& event : expected["events"]) wanted.push_back({event.at(0), with_own_prefix(event.at(1))});
  comparison.add("events", wanted, nearly(wanted, events));
}

}  // namespace

std::vector<Check> run_genai_attributes(const Json& one_case) {
  static constexpr Function functions[] = {
      {"start", of_metadata<genai::start>, true},
      {"terminal", of_metadata<genai::terminal>, true},
      {"exception", of_metadata<genai::exception>, true},
      {"exception_event", [](const Json& input) { return genai::exception_event(to_metadata(input)); }, true},
      {"error_type", of_metadata<genai::error_type>},
      {"error_status", of_metadata<genai::error_status>},
      {"provider_name", of_metadata<genai::provider_name>},
      {"request_model", of_metadata<genai::request_model>},
      {"streaming_ttfc_seconds", of_metadata<genai::streaming_ttfc_seconds>},
      {"cost_breakdown", of_metadata<genai::cost_breakdown>},
      {"present", present},
  };
  return run_function(functions, one_case);
}

std::vector<Check> run_genai_spans_metrics(const Json& one_case) {
  static constexpr Function functions[] = {
      {"operation_name", of_metadata<genai::operation_name>}, {"output_type", of_metadata<genai::output_type>},
      {"span_status", of_metadata<genai::span_status>},       {"span_name", span_name},
      {"metrics_stop", metrics<genai::metrics_stop>},         {"metrics_exception", metrics<genai::metrics_exception>},
  };
  return run_function(functions, one_case);
}

std::vector<Check> run_genai_events(const Json& one_case) {
  check(one_case, "genai");
  const std::string name = one_case["function"];
  const Json& expected = one_case["expected"];
  const bool sequence = name == "sequence";
  const Json calls = sequence ? one_case["input"] : Json::array({{{"call", name}, {"payload", one_case["input"]}}});
  check(calls, "sequence");
  check(expected, sequence ? "expected sequence" : "expected event");
  const AroundEvents seen = emit_events(calls);
  Comparison comparison;
  comparison.add("event_count", expected["event_count"], seen.events.size());
  compare_events(expected, seen.events, comparison);
  for (const SpanEvent& event : seen.events) comparison.add("span of " + event.name, seen.span_id, event.span_id);
  comparison.add("the span's metadata", seen.start, seen.stop);
  comparison.add("the span's status", nopspan::to_string(nopspan::Status::ok), nopspan::to_string(seen.status));
  return {{name, comparison.mismatches()}};
}

}  // namespace cases
