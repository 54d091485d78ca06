// SPDX-License-Identifier: Apache-2.0
// genai_events.json: the GenAI span events that handlers receive. The typed setters emit them inside a span.
#include <nopspan/event.h>
#include <nopspan/genai_spans.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <cstdint>
#include <functional>
#include <utility>

#include "attributes.h"
#include "runner.h"
#include "values.h"

namespace cases {
namespace {

namespace genai = nopspan::genai;

// Sets the fields of a payload that nopspan has a setter for. Other fields are ignored, as in the reference. Null means
// unset.
template <class F>
struct Setter {
  std::string_view key;
  void (*set)(F& fields, const Json& value);
};

// Passes a number on with its own type.
template <class Set>
void with_number(const Json& value, const Set& set) {
  if (value.is_number_float()) {
    set(value.get<double>());
  } else if (value.is_number_integer()) {
    set(value.get<std::int64_t>());
  } else {
    throw Inexpressible("no number: " + value.dump());
  }
}

const std::string& text_of(const Json& value) {
  if (!value.is_string()) throw Inexpressible("no string: " + value.dump());
  return value.get_ref<const std::string&>();
}

constexpr Setter<genai::PromptSentFields> kPromptSent[] = {
    {"model", [](auto& fields, const Json& value) { fields.model(text_of(value)); }},
    {"promptTokens",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.prompt_tokens(n); }); }},
    {"messageCount",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.message_count(n); }); }},
    {"operation", [](auto& fields, const Json& value) { fields.operation(text_of(value)); }},
};

constexpr Setter<genai::ResponseReceivedFields> kResponseReceived[] = {
    {"model", [](auto& fields, const Json& value) { fields.model(text_of(value)); }},
    {"promptTokens",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.prompt_tokens(n); }); }},
    {"completionTokens",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.completion_tokens(n); }); }},
    {"totalTokens",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.total_tokens(n); }); }},
    {"finishReasons",
     [](auto& fields, const Json& value) {
       if (!value.is_array()) throw Inexpressible("no list: " + value.dump());
       std::vector<nopspan::Text> reasons;
       for (const Json& reason : value) reasons.emplace_back(text_of(reason));
       fields.finish_reasons(reasons.data(), reasons.size());
     }},
};

constexpr Setter<genai::RetryFields> kRetry[] = {
    {"attempt", [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.attempt(n); }); }},
    {"reason", [](auto& fields, const Json& value) { fields.reason(text_of(value)); }},
    {"delayMs", [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.delay_ms(n); }); }},
    {"statusCode", [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.status_code(n); }); }},
};

constexpr Setter<genai::ToolCallFields> kToolCall[] = {
    {"toolName", [](auto& fields, const Json& value) { fields.tool_name(text_of(value)); }},
    {"toolCallId", [](auto& fields, const Json& value) { fields.tool_call_id(text_of(value)); }},
    {"arguments", [](auto& fields, const Json& value) { fields.arguments(text_of(value)); }},
};

constexpr Setter<genai::StreamFirstTokenFields> kStreamFirstToken[] = {
    {"tokensSoFar",
     [](auto& fields, const Json& value) { with_number(value, [&](auto n) { fields.tokens_so_far(n); }); }},
};

// The setters run where no exception may escape, so an Inexpressible is kept for later.
template <class F, class SpanEvent, std::size_t N>
void emit(const SpanEvent& event, const Setter<F> (&setters)[N], const Json& payload) {
  if constexpr (!SpanEvent::kNeedsFields) {
    if (payload.is_null()) return event();
  }
  if (!payload.is_object()) throw Inexpressible("no payload: " + payload.dump());
  std::string refused;
  event([&](F& fields) {
    try {
      for (const Setter<F>& setter : setters) {
        const std::string key(setter.key);
        if (!optional(payload, key).is_null()) setter.set(fields, payload[key]);
      }
    } catch (const Inexpressible& why) {
      refused = why.what();
    }
  });
  if (!refused.empty()) throw Inexpressible(refused);
}

struct EventFunction {
  std::string_view name;
  std::string_view event;
  void (*emit)(const Json& payload);
};

constexpr EventFunction kEventFunctions[] = {
    {"prompt_sent", genai::prompt_sent.name(),
     [](const Json& payload) { emit(genai::prompt_sent, kPromptSent, payload); }},
    {"response_received", genai::response_received.name(),
     [](const Json& payload) { emit(genai::response_received, kResponseReceived, payload); }},
    {"retry", genai::retry.name(), [](const Json& payload) { emit(genai::retry, kRetry, payload); }},
    {"tool_call", genai::tool_call.name(), [](const Json& payload) { emit(genai::tool_call, kToolCall, payload); }},
    {"stream_first_token", genai::stream_first_token.name(),
     [](const Json& payload) { emit(genai::stream_first_token, kStreamFirstToken, payload); }},
};

const EventFunction& find_event_function(const std::string& name) {
  for (const EventFunction& function : kEventFunctions) {
    if (function.name == name) return function;
  }
  throw Inexpressible("unknown function \"" + name + "\"");
}

struct EventCall {
  const EventFunction& function;
  Json payload;
};

std::vector<EventCall> parse_calls(const std::string& name, const Json& input) {
  if (name != "sequence") return {{find_event_function(name), input}};
  if (!input.is_array() || input.empty()) throw Inexpressible("no sequence: " + input.dump());
  std::vector<EventCall> calls;
  for (const Json& call : input) {
    only_keys(call, "a call", {"call", "payload"});
    calls.push_back(
        {find_event_function(required_string(call, "a call", "call")), required(call, "a call", "payload")});
  }
  return calls;
}

void check_expected_events(const std::string& name, const Json& expected) {
  required(expected, "an expectation", "event_count");
  if (name != "sequence") {
    required_string(expected, "an expectation", "name");
    return check_attributes(expected, {"event_count", "name"});
  }
  only_keys(expected, "an expectation", {"event_count", "events", "ordered"});
  if (optional(expected, "ordered") != true) throw Inexpressible("a sequence in any order");
  for (const Json& event : required(expected, "an expectation", "events")) {
    if (!event.is_array() || event.size() != 2) throw Inexpressible("no event: " + event.dump());
    with_own_prefix(event[1]);
  }
}

struct Seen {
  std::string name;
  nopspan::Value metadata;
  std::uint64_t span_id;
};

// The events of the calls and of the span around them, as handlers received them.
struct Run {
  std::vector<Seen> events;
  Json start, stop;
  nopspan::Status status = nopspan::Status::ok;
  std::uint64_t span_id = 0;
};

Run run(const std::vector<EventCall>& calls) {
  static constexpr const char* kId = "cases.genai_events";
  Run seen;
  std::vector<std::string> names = {"cases.around.start", "cases.around.stop"};
  for (const EventFunction& function : kEventFunctions) names.emplace_back(function.event);
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
    for (const EventCall& call : calls) call.function.emit(call.payload);
  } catch (...) {
    static_cast<void>(nopspan::detach(kId));
    throw;
  }
  static_cast<void>(nopspan::detach(kId));
  return seen;
}

void compare_events(const std::string& name, const Json& expected, const Run& seen, Comparison& comparison) {
  if (name != "sequence") {
    if (seen.events.empty()) return;  // the count already reports this
    comparison.add("name", expected["name"], seen.events[0].name);
    return compare_attributes(expected, seen.events[0].metadata, comparison);
  }
  Json events = Json::array();
  for (const Seen& event : seen.events) events.push_back({event.name, to_json(event.metadata)});
  Json wanted = Json::array();
  for (const Json& event : expected["events"]) wanted.push_back({event[0], with_own_prefix(event[1])});
  comparison.add("events", wanted, nearly(wanted, events));
}

}  // namespace

std::vector<Check> run_genai_events(const Json& one_case) {
  check_genai_case(one_case);
  const std::string name = required_string(one_case, "a case", "function");
  const Json& expected = required(one_case, "a case", "expected");
  const std::vector<EventCall> calls = parse_calls(name, required(one_case, "a case", "input"));
  check_expected_events(name, expected);
  const Run seen = run(calls);
  Comparison comparison;
  comparison.add("event_count", expected["event_count"], seen.events.size());
  compare_events(name, expected, seen, comparison);
  for (const Seen& event : seen.events) comparison.add("span of " + event.name, seen.span_id, event.span_id);
  comparison.add("the span's metadata", seen.start, seen.stop);
  comparison.add("the span's status", nopspan::to_string(nopspan::Status::ok), nopspan::to_string(seen.status));
  Bindings bindings;
  return {{name, comparison.mismatches(bindings)}};
}

}  // namespace cases
