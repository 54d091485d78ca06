// SPDX-License-Identifier: Apache-2.0
// agent_scenarios.json: tool_span, emit_tool_*, the default logger, event names and trace ids of the agent catalogue.
#include <nopspan/agent.h>
#include <nopspan/event.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <set>
#include <string>

#include "delivery.h"
#include "failure.h"
#include "listing.h"
#include "recorded_events.h"
#include "runner.h"
#include "values.h"

namespace cases {
namespace {

namespace agent = nopspan::agent;
using nopspan::Value;

// --- tool_span, emit_tool_*

void check_tool_span(const Json& when) {
  only_keys(when, "tool_span", {"op", "metadata", "body"});
  const Json& body = required(when, "tool_span", "body");
  only_keys(body, "a body", {"return", "fail"});
  if (body.contains("return") == body.contains("fail")) throw Inexpressible("a body returns or fails: " + body.dump());
  if (body.contains("fail")) check_failure(body["fail"]);
}

std::uint64_t start_time(const Json& when) {
  const Json start = required(when, "a tool's end", "start_time");
  if (start == "now") {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds(1));
  }
  if (!start.is_number_integer()) throw Inexpressible("start_time: " + start.dump());
  return static_cast<std::uint64_t>(start.get<std::int64_t>());
}

void check_emit(const std::string& op, const Json& when) {
  if (op == "emit_tool_start") {
    only_keys(when, op, {"op", "metadata"});
    return;
  }
  if (op == "emit_tool_stop") {
    only_keys(when, op, {"op", "metadata", "result", "start_time"});
    to_value(required(when, op, "result"));
  } else {
    only_keys(when, op, {"op", "metadata", "error", "start_time", "kind", "stacktrace"});
    to_value(required(when, op, "error"));
    to_value(optional(when, "stacktrace"));
    if (when.contains("kind")) required_string(when, op, "kind");
  }
  start_time(when);
}

Json run_tool_span(const Json& when) {
  const Json& body = when["body"];
  return to_json(agent::tool_span(to_value(when["metadata"]), [&]() -> Value {
    if (body.contains("fail")) fail(body["fail"]);
    return to_value(body["return"]);
  }));
}

nopspan::Errc run_emit(const std::string& op, const Json& when) {
  const Value metadata = to_value(when["metadata"]);
  if (op == "emit_tool_start") return agent::emit_tool_start(metadata);
  if (op == "emit_tool_stop") return agent::emit_tool_stop(metadata, to_value(when["result"]), start_time(when));
  const Value error = to_value(when["error"]);
  const std::string kind = when.value("kind", "error");
  if (when.contains("stacktrace")) {
    return agent::emit_tool_exception(metadata, error, start_time(when), kind, to_value(when["stacktrace"]));
  }
  if (when.contains("kind")) return agent::emit_tool_exception(metadata, error, start_time(when), kind);
  return agent::emit_tool_exception(metadata, error, start_time(when));
}

Mismatches compare_tool(const std::string& op, const Json& when, const Json& expect) {
  only_keys(expect, "the expectation of " + op, {"returns", "raises", "events", "event_names"});
  if (expect.contains("raises")) only_keys(expect["raises"], "raises", {"class", "reason", "type", "message"});
  RecordedEvents::check(expect);
  check_metadata(required(when, op, "metadata"));
  op == "tool_span" ? check_tool_span(when) : check_emit(op, when);

  const RecordedEvents recorded(agent::event_names());
  const bool exits = op == "tool_span" && when["body"].contains("fail") && when["body"]["fail"]["class"] == "exit";
  const Outcome outcome =
      observe([&] { return op == "tool_span" ? run_tool_span(when) : as_returned(run_emit(op, when)); }, exits);
  Comparison comparison;
  if (expect.contains("raises")) {
    comparison.add("raises", expect["raises"], as_raised(outcome, expect["raises"]));
    comparison.add("raises what the body threw", true, outcome.same_exception);
  } else if (outcome.raised) {
    comparison.add("raises", "no exception", outcome.failure_class + " " + outcome.type + ": " + outcome.message);
  } else if (expect.contains("returns")) {
    comparison.add("returns", expect["returns"], outcome.returned);
  }
  recorded.compare(expect, comparison);
  Bindings bindings;
  return comparison.mismatches(bindings);
}

// --- The default logger

// Removes all loggers and the sink at the end of a case.
class Logger {
 public:
  Logger() {
    nopspan::set_log_sink([this](nopspan::LogLevel level, std::string_view message) {
      lines_.push_back({level, std::string(message)});
    });
  }
  ~Logger() {
    static_cast<void>(agent::detach_default_logger());
    nopspan::set_log_sink({});
  }
  Logger(const Logger&) = delete;
  Logger& operator=(const Logger&) = delete;

  [[nodiscard]] const std::vector<LogLine>& lines() const noexcept { return lines_; }

 private:
  std::vector<LogLine> lines_;
};

nopspan::LogLevel level_of(const Json& opts) {
  using nopspan::LogLevel;
  const std::string name = opts.is_null() ? "debug" : opts.value("level", "debug");
  for (const LogLevel level : {LogLevel::debug, LogLevel::info, LogLevel::warning, LogLevel::error}) {
    if (name == nopspan::to_string(level)) return level;
  }
  throw Inexpressible("unknown level \"" + name + "\"");
}

Json run_logger_operation(const Json& op, const Json& opts) {
  if (op == "detach_default_logger") return as_returned(agent::detach_default_logger());
  if (op != "attach_default_logger") throw Inexpressible("unknown operation of a logger " + op.dump());
  return as_returned(opts.is_null() ? agent::attach_default_logger() : agent::attach_default_logger(level_of(opts)));
}

// Replaces the reference's prefix by nopspan's, where it begins `text` or follows `before`.
Json with_own_prefix_after(const Json& text, const std::string& before) {
  const std::string theirs = before + "beamlens";
  if (!text.is_string() || text.get<std::string>().compare(0, theirs.size(), theirs) != 0) return text;
  return before + "agent" + text.get<std::string>().substr(theirs.size());
}

Json attached_id() {
  std::set<std::string> ids;
  for (const nopspan::HandlerInfo& handler : nopspan::list_handlers(agent::event_prefix())) ids.insert(handler.id);
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? Json(*ids.begin()) : Json(ids);
}

Mismatches compare_attaching(const std::string& op, const Json& when, const Json& expect) {
  only_keys(when, op,
            op == "seq" ? std::initializer_list<std::string_view>{"op", "ops"}
                        : std::initializer_list<std::string_view>{"op", "opts"});
  if (when.contains("opts")) only_keys(when["opts"], "opts", {"level"});
  only_keys(expect, "the expectation of " + op, {"returns", "handler_id", "handler_count"});
  const Logger logger;
  Json returned;
  if (op == "seq") {
    returned = Json::array();
    for (const Json& one : required(when, op, "ops")) returned.push_back(run_logger_operation(one, nullptr));
  } else {
    returned = run_logger_operation(op, optional(when, "opts"));
  }
  Comparison comparison;
  if (expect.contains("returns")) comparison.add("returns", expect["returns"], returned);
  if (expect.contains("handler_id")) {
    comparison.add("handler_id", with_own_prefix_after(expect["handler_id"], ""), attached_id());
  }
  if (expect.contains("handler_count")) {
    comparison.add("handler_count", expect["handler_count"], nopspan::list_handlers(agent::event_prefix()).size());
  }
  Bindings bindings;
  return comparison.mismatches(bindings);
}

Mismatches compare_line(const Json& when, const Json& expect) {
  only_keys(when, "log", {"op", "opts", "event", "measurements", "metadata"});
  if (when.contains("opts")) only_keys(when["opts"], "opts", {"level"});
  only_keys(expect, "the expectation of log", {"level", "message"});
  check_measurements(required(when, "log", "measurements"));
  check_metadata(required(when, "log", "metadata"));
  const Json opts = optional(when, "opts");
  const Logger logger;
  Comparison comparison;
  comparison.add("attach", "ok", run_logger_operation("attach_default_logger", opts.empty() ? Json() : opts));
  comparison.add("emit", "ok",
                 as_returned(agent::emit(dotted_name(required(when, "log", "event")), to_value(when["measurements"]),
                                         to_value(when["metadata"]))));
  Json lines = Json::array();
  for (const LogLine& line : logger.lines()) {
    Json seen = Json::object();
    if (expect.contains("level")) seen["level"] = nopspan::to_string(line.level);
    if (expect.contains("message")) seen["message"] = line.message;
    lines.push_back(seen);
  }
  Json expected = expect;
  if (expected.contains("message")) expected["message"] = with_own_prefix_after(expected["message"], "[");
  comparison.add("lines", Json::array({expected}), lines);
  Bindings bindings;
  return comparison.mismatches(bindings);
}

// --- Names and ids

Mismatches compare_trace_ids(const Json& when, const Json& expect) {
  only_keys(when, "generate_trace_id", {"op", "times"});
  check_listing(expect);
  std::vector<std::string> ids;
  for (unsigned i = times_of(when); i > 0; --i) ids.emplace_back(agent::generate_trace_id());
  return compare_listing(expect, ids);
}

Mismatches compare_names(const Json& when, const Json& expect) {
  only_keys(when, "event_names", {"op"});
  check_listing(expect);
  return compare_listing(expect, agent::event_names());
}

}  // namespace

std::vector<Check> run_agent_scenarios(const Json& one_case) {
  only_keys(one_case, "a case", {"id", "group", "source", "given", "when", "expect", "note", "tags"});
  const Json given = optional(one_case, "given");
  if (!given.is_string() && !given.empty()) throw Inexpressible("given: " + given.dump());
  const Json& when = required(one_case, "a case", "when");
  const Json& expect = required(one_case, "a case", "expect");
  const std::string op = required_string(when, "a case", "op");
  const auto is_one_of = [&](std::initializer_list<const char*> ops) {
    return std::any_of(ops.begin(), ops.end(), [&](const char* other) { return op == other; });
  };
  if (op == "event_names") return {{op, compare_names(when, expect)}};
  if (op == "generate_trace_id") return {{op, compare_trace_ids(when, expect)}};
  if (op == "log") return {{op, compare_line(when, expect)}};
  if (is_one_of({"tool_span", "emit_tool_start", "emit_tool_stop", "emit_tool_exception"})) {
    return {{op, compare_tool(op, when, expect)}};
  }
  if (is_one_of({"seq", "attach_default_logger", "detach_default_logger"})) {
    return {{op, compare_attaching(op, when, expect)}};
  }
  throw Inexpressible("unknown operation \"" + op + "\"");
}

}  // namespace cases
