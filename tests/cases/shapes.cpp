// SPDX-License-Identifier: Apache-2.0
#include "shapes.h"

#include <algorithm>
#include <string_view>

namespace cases {
namespace {

// A shape is an object of shapes, a list with one shape for all items, the name of a shape, or a word (fits_word()). A
// key with "!" must be there, the key "*" stands for all others, and a name or word with "?" also fits null.
const Json& shapes() {
  static const Json all = Json::parse(R"({
    "failure": {"class!": "|error|throw|exit", "reason": "string", "type": "|RuntimeError|ArgumentError",
                "message": "string"},
    "raised": {"class": "any", "reason": "any", "type": "any", "message": "any", "message_contains": "any"},
    "numbers": {"*": "number"},
    "body": {"return": "value", "stop_metadata": "object", "extras": "object?", "extra_measurements": "numbers?",
             "fail": "failure", "nested": "any"},
    "event": {"event!": "name", "measurements": "any", "metadata": "any", "exact": "bool", "measurements_exact": "bool",
              "metadata_exact": "bool"},
    "listing": {"length": "any", "distinct": "any", "equals": ["name"], "matches": "string"},
    "scenario": {"id": "any", "group": "any", "source": "any", "note": "any", "given": "comment", "when!": "any",
                 "expect!": "any"},

    "registry": {"id": "any", "source": "any", "note": "any", "tags": "any", "given": "comment", "steps!": ["step"]},
    "step": {"op!": "string", "args!": "any", "expect!": "any", "note": "any", "given": "comment"},
    "attach": {"id!": "string", "event!": "name", "handler!": "any", "config": "value"},
    "attach_many": {"id!": "string", "events!": ["name"], "handler!": "any", "config": "value"},
    "detach": {"id!": "string"},
    "list_handlers": {"prefix!": "name"},
    "execute": {"event!": "name", "measurements": "numbers", "metadata": "object"},
    "span": {"prefix!": "name", "start_metadata": "object", "body!": "body"},
    "handler record": {"kind": "any"},
    "handler fail": {"kind": "any", "class!": "|error|throw", "reason!": "string"},
    "handler run": {"kind": "any", "ops!": [{"op!": "string", "*": "any"}], "once": "bool", "record": "bool"},
    "delivery": {"handler": "any", "event": "any", "measurements": "any", "metadata": "any", "config": "any"},
    "expect list_handlers": {"entries_unordered!": [{"id": "any", "event": "any", "config": "any"}]},
    "expect step": {"returns": "any", "raises": "any", "deliveries": ["delivery"], "deliveries_unordered": ["delivery"],
                    "event_names": ["name"], "logs": [{"level!": "any", "mentions!": ["string"]}],
                    "same_reason_on_both": "bool", "given": "comment"},

    "llm span": {"op": "|span", "name!": "string", "start_metadata": "object", "body!": "body"},
    "llm execute": {"op": "any", "suffix!": "name", "measurements": "numbers", "metadata": "object"},
    "llm request_id": {"op": "any"},
    "llm event_prefix": {"op": "any"},
    "expect llm span": {"returns": "any", "raises": "raised", "events": ["event"], "event_names": ["name"],
                        "body_called": "bool", "same_span_context": "any", "span_context_on_all_events": "any",
                        "same_request_id": "any"},
    "expect llm execute": {"returns": "any", "events": ["event"]},
    "expect llm request_id": "listing",
    "expect llm event_prefix": {"returns!": "name"},

    "catalogue": {"id": "any", "name!": "name", "segments!": "name", "measurements!": "object", "metadata!": "object",
                  "source_line": "any", "note": "any", "emitted_also": "object", "position_in_event_names!": "integer"},
    "agent tool_span": {"op": "any", "metadata!": "object", "body!": "body"},
    "agent emit_tool_start": {"op": "any", "metadata!": "object"},
    "agent emit_tool_exception": {"op": "any", "metadata!": "object", "error!": "value", "start_time!": "any",
                                  "kind": "string", "stacktrace": "value"},
    "agent attach_default_logger": {"op": "any"},
    "agent detach_default_logger": {"op": "any"},
    "agent seq": {"op": "any", "ops!": ["|attach_default_logger|detach_default_logger"]},
    "agent log": {"op": "any", "opts": {"level": "|debug|info|warning|error"}, "event!": "name",
                  "measurements!": "numbers", "metadata!": "object"},
    "agent generate_trace_id": {"op": "any", "times": "integer"},
    "agent event_names": {"op": "any"},
    "expect tool": {"returns": "any", "raises": "raised", "events": ["event"]},
    "expect logger": {"returns": "any", "handler_id": "string", "handler_count": "any"},
    "expect log": {"level": "any", "message": "string"},

    "genai": {"id": "any", "function!": "string", "source": "any", "note": "any", "variant": "|both|B", "input!": "any",
              "expected!": "any"},
    "metadata": {"native_unit": "|ns", "error": "any", "*": "value"},
    "exception": {"type!": "string", "message!": "string"},
    "present": {"value!": "value"},
    "span_name": {"operation!": "string?", "model_id!": "string?"},
    "metrics": {"metadata!": "metadata", "duration_ns!": "integer?"},
    "payload": {"model": "string?", "promptTokens": "number?", "messageCount": "number?", "operation": "string?",
                "completionTokens": "number?", "totalTokens": "number?", "finishReasons": "strings?",
                "attempt": "number?", "reason": "string?", "delayMs": "number?", "statusCode": "number?",
                "toolName": "string?", "toolCallId": "string?", "arguments": "string?", "tokensSoFar": "number?",
                "*": "value"},
    "sequence": [{"call!": "string", "payload!": "any"}],
    "expected value": {"value!": "any"},
    "expected attributes": {"attributes!": {"*": "any"}, "types": {"*": "any"}, "exact": "true"},
    "expected event": {"attributes!": {"*": "any"}, "types": {"*": "any"}, "exact": "true", "key_order": ["any"],
                       "event_count!": "any", "name!": "string"},
    "expected sequence": {"event_count!": "any", "events!": [["any"]], "ordered!": "true"}
  })");
  return all;
}

// Whether there is an object in the notation of matchers ("$…"), which is not a value.
bool has_notation(const Json& json) {
  if (json.is_object()) {
    for (const auto& [key, item] : json.items()) {
      if (!key.empty() && key[0] == '$') return true;
    }
  }
  return json.is_structured() && std::any_of(json.begin(), json.end(), has_notation);
}

bool is_list_of_strings(const Json& json) {
  return json.is_array() && std::all_of(json.begin(), json.end(), [](const Json& item) { return item.is_string(); });
}

bool fits_word(const Json& json, std::string_view word) {
  if (word[0] == '|') {  // one of these strings
    const std::string one = json.is_string() ? "|" + json.get<std::string>() + "|" : "";
    return !one.empty() && (std::string(word) + "|").find(one) != std::string::npos;
  }
  if (word == "any") return true;
  if (word == "value") return !has_notation(json);
  if (word == "object") return json.is_object() && !has_notation(json);
  if (word == "name") return json.is_string() || is_list_of_strings(json);  // of an event
  if (word == "comment") return json.is_string() || json.empty();
  if (word == "strings") return is_list_of_strings(json);
  if (word == "string") return json.is_string();
  if (word == "number") return json.is_number();
  if (word == "integer") return json.is_number_integer();
  if (word == "bool") return json.is_boolean();
  if (word == "true") return json == true;
  throw Inexpressible("there is no shape \"" + std::string(word) + "\"");
}

void fit(const Json& json, const Json& shape, const std::string& where) {
  const auto expect = [&](bool holds, const std::string& what) {
    if (!holds) throw Inexpressible(where + ": not " + what + ": " + json.dump());
  };
  if (shape.is_string()) {
    std::string name = shape;
    if (name.back() == '?') {
      if (json.is_null()) return;
      name.pop_back();
    }
    const auto named = shapes().find(name);
    if (named != shapes().end()) return fit(json, *named, where);
    return expect(fits_word(json, name), name);
  }
  if (shape.is_array()) {
    expect(json.is_array(), "a list");
    for (const Json& item : json) fit(item, shape[0], where + "[]");
    return;
  }
  expect(json.is_object(), "an object");
  for (const auto& [key, of_key] : shape.items()) {
    if (key.back() == '!') expect(json.contains(key.substr(0, key.size() - 1)), "an object with " + key);
  }
  for (const auto& [key, value] : json.items()) {
    const std::string at = where + "." + key;
    auto known = shape.find(key);
    if (known == shape.end()) known = shape.find(key + "!");
    if (known == shape.end()) known = shape.find("*");
    if (known == shape.end()) throw Inexpressible(at + ": unknown key");
    fit(value, *known, at);
  }
}

}  // namespace

void check(const Json& json, const std::string& shape) { fit(json, shape, shape); }

Json optional(const Json& object, const std::string& key) {
  const auto found = object.find(key);
  return found == object.end() ? Json() : *found;
}

}  // namespace cases
