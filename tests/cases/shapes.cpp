// SPDX-License-Identifier: Apache-2.0
#include "shapes.h"

#include <algorithm>
#include <string_view>

namespace cases {
namespace {

// A shape is an object of shapes, a list with one shape for all items, the name of a shape, or a word (fits_word()). A
// key with "!" must be there, the key "*" stands for all others, and a name or word with "?" also fits null. An object
// {"by": key, …} has a shape for each value of this key. The keys "=1", "<=1" and ">=1" have lists of keys, of each of
// which so many must be there.
const Json& shapes() {
  static const Json all = Json::parse(R"({
    "failure": {"by": "class",
                "error": {"class!": "any", "reason": "string", "message": "string",
                          "type": "|RuntimeError|ArgumentError", ">=1": [["reason", "message"]]},
                "throw": {"class!": "any", "reason": "string", "message": "string", ">=1": [["reason", "message"]]},
                "exit": {"class!": "any", "reason": "string", "message": "string", ">=1": [["reason", "message"]]}},
    "raised": {"class": "any", "reason": "any", "type": "any", "message": "any", "message_contains": "any"},
    "numbers": {"*": "number"},
    "body": {"return": "value", "stop_metadata": "object", "extras": "object?", "extra_measurements": "numbers?",
             "fail": "failure", "nested": "any", "<=1": [["return", "fail"], ["stop_metadata", "extras"]]},
    "event": {"event!": "name", "measurements": "any", "metadata": "any", "exact": "bool", "measurements_exact": "bool",
              "metadata_exact": "bool"},
    "listing": {"length": "any", "distinct": "any", "equals": ["name"], "matches": "string",
                ">=1": [["length", "distinct", "equals", "matches"]]},
    "scenario": {"id": "any", "group": "any", "source": "any", "note": "any", "tags": "any", "given": "comment",
                 "when!": "any", "expect!": "any"},

    "registry": {"id": "any", "source": "any", "note": "any", "tags": "any", "given": "comment", "steps!": ["step"]},
    "step": {"op!": "string", "args!": "any", "expect!": "any", "note": "any", "given": "comment"},
    "attach": {"id!": "string", "event!": "name", "handler!": "any", "config": "value"},
    "attach_many": {"id!": "string", "events!": ["name"], "handler!": "any", "config": "value"},
    "detach": {"id!": "string"},
    "list_handlers": {"prefix!": "name"},
    "execute": {"event!": "name", "measurements": "numbers", "metadata": "object"},
    "span": {"op": "|span", "prefix!": "name", "start_metadata": "object", "body!": "body"},
    "handler record": {"kind": "any"},
    "handler fail": {"by": "class",
                     "error": {"kind": "any", "class!": "any", "reason": "string", "message": "string",
                               "type": "|RuntimeError|ArgumentError", ">=1": [["reason", "message"]]},
                     "throw": {"kind": "any", "class!": "any", "reason": "string", "message": "string",
                               ">=1": [["reason", "message"]]}},
    "handler run": {"kind": "any", "ops!": [{"op!": "string", "*": "any"}], "once": "bool", "record": "bool"},
    "delivery": {"handler": "any", "event": "any", "measurements": "any", "metadata": "any", "config": "any"},
    "entry": {"id": "any", "event": "any", "config": "any"},
    "log line": {"level": "any", "mentions": ["string"]},
    "expect step": {"returns": "any", "raises": "any", "deliveries": ["delivery"], "deliveries_unordered": ["delivery"],
                    "event_names": ["name"], "logs": ["log line"], "same_reason_on_both": "bool", "given": "comment",
                    "entries": ["entry"], "entries_unordered": ["entry"], "<=1": [["returns", "raises"]]},

    "llm span": {"op": "|span", "name!": "string", "start_metadata": "object", "body!": "body"},
    "llm execute": {"op": "any", "suffix!": "name", "measurements": "numbers", "metadata": "object"},
    "llm request_id": {"op": "any", "times": "count"},
    "llm event_names": {"op": "any"},
    "llm event_prefix": {"op": "any"},
    "expect llm span": {"returns": "any", "raises": "raised", "events": ["event"], "event_names": ["name"],
                        "body_called": "bool", "same_span_context": "any", "span_context_on_all_events": "any",
                        "same_request_id": "any", "=1": [["returns", "raises"]]},
    "expect llm execute": {"returns": "any", "events": ["event"], "event_names": ["name"]},
    "expect llm request_id": "listing",
    "expect llm event_names": "listing",
    "expect llm event_prefix": {"returns!": "name"},

    "catalogue": {"id": "any", "name!": "name", "segments!": "name", "measurements!": "object", "metadata!": "object",
                  "source_line": "any", "note": "any", "emitted_also": "object", "position_in_event_names!": "integer"},
    "tool body": {"return": "value", "fail": "failure", "=1": [["return", "fail"]]},
    "log options": {"level": "|debug|info|warning|error"},
    "agent tool_span": {"op": "any", "metadata!": "object", "body!": "tool body"},
    "agent emit_tool_start": {"op": "any", "metadata!": "object"},
    "agent emit_tool_stop": {"op": "any", "metadata!": "object", "result!": "value", "start_time!": "time"},
    "agent emit_tool_exception": {"op": "any", "metadata!": "object", "error!": "value", "start_time!": "time",
                                  "kind": "string", "stacktrace": "value"},
    "agent attach_default_logger": {"op": "any", "opts": "log options"},
    "agent detach_default_logger": {"op": "any"},
    "agent seq": {"op": "any", "ops!": ["|attach_default_logger|detach_default_logger"]},
    "agent log": {"op": "any", "opts": "log options", "event!": "name", "measurements!": "numbers",
                  "metadata!": "object"},
    "agent generate_trace_id": {"op": "any", "times": "count"},
    "agent event_names": {"op": "any"},
    "expect tool": {"returns": "any", "raises": "raised", "events": ["event"], "event_names": ["name"],
                    "<=1": [["returns", "raises"]]},
    "expect logger": {"returns": "any", "handler_id": "any", "handler_count": "any"},
    "expect log": {"level": "any", "message": "any"},

    "genai": {"id": "any", "function!": "string", "source": "any", "note": "any", "tags": "any", "variant": "|both|B",
              "input!": "any", "expected!": "any"},
    "metadata": {"native_unit": "|ns", "*": "value"},
    "exception": {"type!": "string", "message!": "string"},
    "present": {"value!": "value"},
    "span_name": {"operation!": "string?", "model_id!": "string?"},
    "metrics": {"metadata!": "any", "duration_ns!": "integer?"},
    "payload": {"model": "string?", "promptTokens": "number?", "messageCount": "number?", "operation": "string?",
                "completionTokens": "number?", "totalTokens": "number?", "finishReasons": "strings?",
                "attempt": "number?", "reason": "string?", "delayMs": "number?", "statusCode": "number?",
                "toolName": "string?", "toolCallId": "string?", "arguments": "string?", "tokensSoFar": "number?",
                "*": "value"},
    "sequence": [{"call!": "string", "payload!": "any"}],
    "expected value": {"value!": "any"},
    "expected attributes": {"attributes!": {"*": "any"}, "types": {"*": "any"}, "exact": "true", "key_order": ["any"]},
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
  if (word == "count") return json.is_number_unsigned() && json > 0;
  if (word == "time") return json == "now" || json.is_number_integer();
  if (word == "bool") return json.is_boolean();
  if (word == "true") return json == true;
  throw Inexpressible("there is no shape \"" + std::string(word) + "\"");
}

// Whether an object has "=1", "<=1" or ">=1" of the keys.
bool has_so_many(const Json& json, std::string_view relation, const Json& keys) {
  const auto count = std::count_if(keys.begin(), keys.end(),
                                   [&](const Json& key) { return json.contains(key.get_ref<const std::string&>()); });
  return count == 1 || (count == 0 && relation == "<=1") || (count > 1 && relation == ">=1");
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
  if (shape.contains("by")) {
    const std::string key = shape["by"];
    const Json value = optional(json, key);
    const auto known = value.is_string() && value != "by" ? shape.find(value.get<std::string>()) : shape.end();
    expect(known != shape.end(), "an object with a known " + key);
    return fit(json, *known, where);
  }
  for (const auto& [key, of_key] : shape.items()) {
    if (key.back() == '!') expect(json.contains(key.substr(0, key.size() - 1)), "an object with " + key);
    if (key.back() == '1') {
      for (const Json& group : of_key) expect(has_so_many(json, key, group), "with " + key + " of " + group.dump());
    }
  }
  for (const auto& [key, value] : json.items()) {
    const std::string at = where + "." + key;
    auto known = key.find_first_of("=!*") == std::string::npos ? shape.find(key) : shape.end();
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
