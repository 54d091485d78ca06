// SPDX-License-Identifier: Apache-2.0
// agent_catalogue.json: the events of the agent catalogue, each emitted with generated values.
// agent_scenarios.json: tool_span, emit_tool_*, the default logger, event names and trace ids of the agent catalogue.
#include <nopspan/agent.h>
#include <nopspan/event.h>
#include <nopspan/registry.h>

#include <chrono>
#include <cstdint>
#include <regex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "events.h"
#include "runners.h"
#include "spans.h"
#include "values.h"

namespace cases {
namespace {

namespace agent = nopspan::agent;
using nopspan::Value;

// --- The catalogue

// nopspan's name for a type of the table.
std::string type_name(const std::string& name) {
  const std::string kind = name.substr(0, name.find(':'));
  return kind == "struct" || kind == "record" || kind == "module" ? "record" : name;
}

Json made_value(const std::string& key, const std::string& type) {
  if (type == "symbol" || type == "string" || type == "process_id") return "made " + key;
  if (type == "int" || type == "uint") return 7;
  if (type == "bool") return true;
  if (type == "list") return Json::array({"made", 1});
  if (type == "list<string>" || type == "list<symbol>") return Json::array({"made", key});
  if (type == "map" || type == "record") return {{"made", key}};
  if (type == "any") return {{"any", Json::array({1, 2.5, nullptr})}};
  throw Inexpressible("unknown type \"" + type + "\"");
}

Json made_values(const Json& types) {
  Json values = Json::object();
  for (const auto& [key, type] : types.items()) values[key] = made_value(key, type_name(type));
  return values;
}

Json named_types(const Json& types) {
  Json names = Json::object();
  for (const auto& [key, type] : types.items()) names[key] = type_name(type);
  return names;
}

// The {key: type} of the table.
Json types_of(const agent::Table<agent::FieldDescription>& fields, bool optional_ones) {
  Json types = Json::object();
  for (const agent::FieldDescription& field : fields) {
    if (field.optional == optional_ones) types[std::string(field.key)] = agent::to_string(field.type);
  }
  return types;
}

Mismatches compare_table(const Json& one_case, const Json& emitted_also, const std::string& name) {
  Comparison comparison;
  const agent::EventDescription* event = agent::catalogue().begin();
  while (event != agent::catalogue().end() && event->name.view() != name) ++event;
  if (event == agent::catalogue().end()) return {"the catalogue has no " + name};
  const auto position = static_cast<std::size_t>(event - agent::catalogue().begin());
  comparison.add("position in the catalogue", one_case["position_in_event_names"], position);
  comparison.add("name at that position", name, std::string(agent::event_names()[position]));
  comparison.add("measurements", named_types(one_case["measurements"]), types_of(event->measurements, false));
  comparison.add("metadata", named_types(one_case["metadata"]), types_of(event->metadata, false));
  comparison.add("emitted_also", named_types(emitted_also), types_of(event->metadata, true));
  return comparison.mismatches();
}

// Emits the event, and checks that a handler receives exactly its keys and values.
Mismatches compare_emitted(const std::string& name, const Json& measurements, const Json& metadata) {
  const RecordedEvents recorded({name});
  const nopspan::Errc error = agent::emit(name, to_value(measurements), to_value(metadata));
  Comparison comparison;
  comparison.add("returns", "ok", nopspan::describe(error));
  const Json event = {{"event", name}, {"measurements", measurements}, {"metadata", metadata}, {"exact", true}};
  recorded.compare({{"events", Json::array({event})}}, comparison);
  return comparison.mismatches();
}

// --- tool_span, emit_tool_*

Json run_tool(const std::string& op, const Json& when) {
  const Value metadata = to_value(when["metadata"]);
  if (op == "tool_span") {
    const Json& body = when["body"];
    return to_json(agent::tool_span(metadata, [&]() -> Value {
      if (body.contains("fail")) fail(body["fail"]);
      return to_value(body["return"]);
    }));
  }
  if (op == "emit_tool_start") return as_returned(agent::emit_tool_start(metadata));
  const Json& start = when["start_time"];
  const std::int64_t now = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  const auto start_time = static_cast<std::uint64_t>(start == "now" ? now : start.get<std::int64_t>());
  if (op == "emit_tool_stop") {
    return as_returned(agent::emit_tool_stop(metadata, to_value(when["result"]), start_time));
  }
  const Value error = to_value(when["error"]);
  const std::string kind = when.value("kind", "error");
  if (when.contains("stacktrace")) {
    return as_returned(agent::emit_tool_exception(metadata, error, start_time, kind, to_value(when["stacktrace"])));
  }
  if (when.contains("kind")) return as_returned(agent::emit_tool_exception(metadata, error, start_time, kind));
  return as_returned(agent::emit_tool_exception(metadata, error, start_time));
}

Mismatches compare_tool(const std::string& op, const Json& when, const Json& expect) {
  check(expect, "expect tool");
  const RecordedEvents recorded(agent::event_names());
  const Outcome outcome = observe([&] { return run_tool(op, when); }, optional(when, "body"));
  Comparison comparison;
  compare_outcome(expect, outcome, comparison);
  recorded.compare(expect, comparison);
  return comparison.mismatches();
}

// --- The default logger

Json run_logger(const std::string& op, const Json& opts) {
  using nopspan::LogLevel;
  if (op == "detach_default_logger") return as_returned(agent::detach_default_logger());
  for (const LogLevel level : {LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    if (optional(opts, "level") == nopspan::to_string(level)) return as_returned(agent::attach_default_logger(level));
  }
  return as_returned(agent::attach_default_logger());
}

// Replaces the reference's prefix by nopspan's, where it begins a text or follows `before`.
Json with_own_prefix_after(const Json& expected, const std::string& before) {
  if (!expected.is_string()) return expected;
  const std::string theirs = before + "beamlens", text = expected;
  return text.compare(0, theirs.size(), theirs) == 0 ? before + "agent" + text.substr(theirs.size()) : text;
}

// Null if there is none, a list if there are several.
Json attached_id(const std::vector<nopspan::HandlerInfo>& handlers) {
  std::set<std::string> ids;
  for (const nopspan::HandlerInfo& handler : handlers) ids.insert(handler.id);
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(*ids.begin()) : Json(ids);
}

Mismatches compare_logger(const std::string& op, const Json& when, const Json& expect) {
  check(expect, "expect logger");
  Json returned;
  for (const Json& one : optional(when, "ops")) returned.push_back(run_logger(one, {}));
  if (op != "seq") returned = run_logger(op, optional(when, "opts"));
  Comparison comparison;
  compare_outcome(expect, {returned}, comparison);
  const std::vector<nopspan::HandlerInfo> handlers = nopspan::list_handlers(agent::event_prefix());
  if (expect.contains("handler_id")) {
    comparison.add("handler_id", with_own_prefix_after(expect["handler_id"], ""), attached_id(handlers));
  }
  if (expect.contains("handler_count")) {
    comparison.add("handler_count", expect["handler_count"], handlers.size());
  }
  return comparison.mismatches();
}

Mismatches compare_line(const Json& when, const Json& expect) {
  check(expect, "expect log");
  const Log log;
  Comparison comparison;
  comparison.add("attach", "ok", run_logger("attach_default_logger", optional(when, "opts")));
  const nopspan::Errc emitted =
      agent::emit(dotted_name(when["event"]), to_value(when["measurements"]), to_value(when["metadata"]));
  comparison.add("emit", "ok", as_returned(emitted));
  Json expected = expect;
  if (expect.contains("message")) expected["message"] = with_own_prefix_after(expect["message"], "[");
  comparison.add_list("lines", Json::array({expected}), log.lines, [](const Log::Line& line, const Json& one) {
    return only_named({{"level", nopspan::to_string(line.level)}, {"message", line.message}}, one);
  });
  return comparison.mismatches();
}

Mismatches compare_scenario(const std::string& op, const Json& when, const Json& expect) {
  if (op == "log") return compare_line(when, expect);
  if (op.find("logger") != std::string::npos || op == "seq") return compare_logger(op, when, expect);
  if (op == "event_names") return compare_listing(expect, agent::event_names());
  if (op != "generate_trace_id") return compare_tool(op, when, expect);
  std::vector<std::string> ids;
  for (int i = when.value("times", 1); i > 0; --i) ids.emplace_back(agent::generate_trace_id());
  return compare_listing(expect, ids);
}

}  // namespace

Mismatches compare_listing(const Json& expect, const std::vector<std::string>& list) {
  check(expect, "listing");
  Comparison comparison;
  if (expect.contains("length")) comparison.add("length", expect["length"], list.size());
  if (expect.contains("distinct")) {
    comparison.add("distinct", expect["distinct"], std::set<std::string>(list.begin(), list.end()).size());
  }
  if (expect.contains("equals")) comparison.add("equals", dotted_names(expect["equals"]), Json(list));
  const std::regex pattern(expect.value("matches", ""));
  for (const std::string& text : list) comparison.add("matches of " + text, true, std::regex_search(text, pattern));
  return comparison.mismatches();
}

std::vector<Check> run_agent_catalogue(const Json& one_case) {
  check(one_case, "catalogue");
  const std::string name = dotted_name(one_case["name"]);
  if (dotted_name(one_case["segments"]) != name) throw Inexpressible("an event of two names");
  const Json& metadata = one_case["metadata"];
  Json emitted_also = Json::object();  // those that are not in the event's own metadata
  const Json also = optional(one_case, "emitted_also");
  for (const auto& [key, type] : also.items()) {
    if (!metadata.contains(key)) emitted_also[key] = type;
  }
  const Json measurements = made_values(one_case["measurements"]);
  Json all_metadata = made_values(metadata);
  all_metadata.update(made_values(emitted_also));
  return {{"catalogue", compare_table(one_case, emitted_also, name)},
          {"emit", compare_emitted(name, measurements, made_values(metadata))},
          {"emit", compare_emitted(name, measurements, all_metadata)}};
}

std::vector<Check> run_agent_scenarios(const Json& one_case) {
  check(one_case, "scenario");
  const std::string op = one_case["when"].value("op", "");
  check(one_case["when"], "agent " + op);
  Mismatches mismatches = compare_scenario(op, one_case["when"], one_case["expect"]);
  static_cast<void>(agent::detach_default_logger());
  return {{op, std::move(mismatches)}};
}

}  // namespace cases
