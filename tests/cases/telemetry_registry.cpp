// SPDX-License-Identifier: Apache-2.0
// telemetry_registry.json: steps on the handler registry, each with the result, deliveries and log lines that it must
// cause.
#include <nopspan/execute.h>
#include <nopspan/log.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "delivery.h"
#include "failure.h"
#include "runner.h"
#include "span_body.h"
#include "values.h"

namespace cases {
namespace {

struct Operation;

// The behaviour of a handler: record the call, fail, or run operations.
struct HandlerPlan {
  std::string kind;
  Json failure;
  std::vector<Operation> operations;
  bool once = false;
  bool record = false;
};

// An operation, parsed as a whole before the case runs.
struct Operation {
  std::string op;
  std::string id;
  std::vector<std::string> events;  // exactly one for attach and execute
  std::string prefix;
  Json config;
  Json measurements;
  Json metadata;
  Json span;
  std::shared_ptr<const HandlerPlan> handler;
};

struct Step {
  Operation operation;
  Json expect;
};

// --- Parsing

Operation parse_operation(const std::string& op, const Json& args);

std::shared_ptr<const HandlerPlan> parse_handler(const Json& handler) {
  auto plan = std::make_shared<HandlerPlan>();
  plan->kind = required_string(handler, "a handler", "kind");
  if (plan->kind == "record") {
    only_keys(handler, "a handler that records", {"kind"});
    plan->record = true;
  } else if (plan->kind == "fail") {
    only_keys(handler, "a handler that fails", {"kind", "class", "reason", "type", "message"});
    plan->failure = handler;
    plan->failure.erase("kind");
    check_failure(plan->failure);
    if (plan->failure["class"] == "exit") throw Inexpressible("a handler that ends its thread");
  } else if (plan->kind == "run") {
    only_keys(handler, "a handler that runs", {"kind", "ops", "once", "record"});
    for (Json args : required(handler, "a handler that runs", "ops")) {
      const std::string op = required_string(args, "an operation of a handler", "op");
      args.erase("op");
      plan->operations.push_back(parse_operation(op, args));
    }
    plan->once = handler.value("once", false);
    plan->record = handler.value("record", false);
  } else {
    throw Inexpressible("unknown kind of handler \"" + plan->kind + "\"");
  }
  return plan;
}

void check_plain_span(const Json& call) {
  only_keys(call, "a span", {"op", "prefix", "start_metadata", "body"});
  if (call.contains("op") && call["op"] != "span") throw Inexpressible("nested is no span: " + call["op"].dump());
  dotted_name(required(call, "a span", "prefix"));
  check_metadata(optional(call, "start_metadata"));
  SpanBody::check(required(call, "a span", "body"), check_plain_span);
}

Operation parse_operation(const std::string& op, const Json& args) {
  Operation operation;
  operation.op = op;
  if (op == "attach" || op == "attach_many") {
    const std::string events = op == "attach" ? "event" : "events";
    only_keys(args, op, {"id", events, "handler", "config"});
    operation.id = required_string(args, op, "id");
    const Json& names = required(args, op, events);
    if (op == "attach") {
      operation.events.push_back(dotted_name(names));
    } else {
      if (!names.is_array()) throw Inexpressible("\"events\" of attach_many is no list: " + names.dump());
      for (const Json& name : names) operation.events.push_back(dotted_name(name));
    }
    operation.handler = parse_handler(required(args, op, "handler"));
    operation.config = optional(args, "config");
    to_value(operation.config);
  } else if (op == "detach") {
    only_keys(args, op, {"id"});
    operation.id = required_string(args, op, "id");
  } else if (op == "list_handlers") {
    only_keys(args, op, {"prefix"});
    operation.prefix = dotted_name(required(args, op, "prefix"));
  } else if (op == "execute") {
    only_keys(args, op, {"event", "measurements", "metadata"});
    operation.events.push_back(dotted_name(required(args, op, "event")));
    operation.measurements = optional(args, "measurements");
    operation.metadata = optional(args, "metadata");
    check_measurements(operation.measurements);
    check_metadata(operation.metadata);
  } else if (op == "span") {
    check_plain_span(args);
    operation.span = args;
  } else {
    throw Inexpressible("unknown operation \"" + op + "\"");
  }
  return operation;
}

void check_outcome(const std::string& op, const Json& expect) {
  only_keys(expect, "the expectation of " + op,
            {"returns", "raises", "deliveries", "deliveries_unordered", "event_names", "logs", "entries",
             "entries_unordered", "same_reason_on_both", "given"});
  if (!optional(expect, "given").is_null() && !expect["given"].is_string())
    throw Inexpressible("given: " + expect.dump());
  if (expect.contains("returns") && expect.contains("raises"))
    throw Inexpressible("an operation that returns and raises");
  if ((expect.contains("entries") || expect.contains("entries_unordered")) && op != "list_handlers") {
    throw Inexpressible(op + " has no entries");
  }
  const Json raises = optional(expect, "raises");
  if (raises.is_object()) {
    only_keys(raises, "raises", {"class", "reason", "type", "message", "message_contains"});
  } else if (!raises.is_null() && raises != "badarg") {
    throw Inexpressible("raises: " + raises.dump());
  }
  for (const char* list : {"deliveries", "deliveries_unordered"}) {
    for (const Json& delivery : optional(expect, list)) {
      only_keys(delivery, "a delivery", {"handler", "event", "measurements", "metadata", "config"});
    }
  }
  for (const char* list : {"entries", "entries_unordered"}) {
    for (const Json& entry : optional(expect, list)) only_keys(entry, "an entry", {"id", "event", "config"});
  }
  for (const Json& line : optional(expect, "logs")) {
    only_keys(line, "a log line", {"level", "mentions"});
    for (const Json& mention : optional(line, "mentions")) {
      if (!mention.is_string()) throw Inexpressible("mentions: " + mention.dump());
    }
  }
}

std::vector<Step> parse(const Json& one_case) {
  only_keys(one_case, "a case", {"id", "source", "note", "tags", "given", "steps"});
  const Json given = optional(one_case, "given");
  if (!given.is_null() && !given.is_string() && !given.empty()) throw Inexpressible("given: " + given.dump());
  const Json& list = required(one_case, "a case", "steps");
  if (!list.is_array() || list.empty()) throw Inexpressible("a case without steps");
  std::vector<Step> steps;
  for (const Json& step : list) {
    only_keys(step, "a step", {"op", "args", "expect", "note", "given"});
    if (!optional(step, "given").is_null() && !step["given"].is_string()) throw Inexpressible("given: " + step.dump());
    const std::string op = required_string(step, "a step", "op");
    const Json& expect = required(step, "a step", "expect");
    check_outcome(op, expect);
    steps.push_back({parse_operation(op, required(step, "a step", "args")), expect});
  }
  return steps;
}

// --- Running

// The state of the registry during one case, and the calls that its handlers recorded.
class Session {
 public:
  Session() {
    nopspan::set_log_sink([this](nopspan::LogLevel level, std::string_view message) {
      logs_.push_back({level, std::string(message)});
    });
  }
  ~Session() {
    for (const nopspan::HandlerInfo& handler : nopspan::list_handlers()) static_cast<void>(nopspan::detach(handler.id));
    nopspan::set_log_sink({});
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Mismatches run(const Step& step) {
    deliveries_.clear();
    logs_.clear();
    const Outcome outcome = observe([&] { return perform(step.operation); },
                                    step.operation.op == "span" && SpanBody::ends_thread(step.operation.span["body"]));
    Mismatches mismatches = compare(step, outcome);
    if (outcome.raised && !outcome.same_exception) {
      mismatches.push_back("raises: not the exception that the body threw");
    }
    return mismatches;
  }

 private:
  Json perform(const Operation& operation);
  nopspan::Handler make_handler(const Operation& operation);
  Mismatches compare(const Step& step, const Outcome& outcome);
  static void compare_result(const Json& expect, const Outcome& outcome, Comparison& comparison);
  void compare_deliveries(const Json& expect, Comparison& comparison) const;
  void compare_logs(const Json& expect, Comparison& comparison) const;
  static void compare_entries(const Json& expect, const Json& returned, Comparison& comparison);

  std::vector<Delivery> deliveries_;
  std::vector<LogLine> logs_;
  Bindings bindings_;
};

Json run_plain_span(const Json& call) {
  const nopspan::Name name = nopspan::Name::intern(dotted_name(call["prefix"]));
  const Json metadata = optional(call, "start_metadata");
  return nopspan::span(
      name, [&](nopspan::Fields& fields) { set_metadata(fields, metadata); }, SpanBody(call["body"], run_plain_span));
}

nopspan::Handler Session::make_handler(const Operation& operation) {
  auto ran = std::make_shared<bool>(false);
  return [this, id = operation.id, plan = operation.handler, ran](const nopspan::Event& event) {
    if (plan->kind == "fail") fail(plan->failure);
    if (!plan->once || !*ran) {
      *ran = true;
      for (const Operation& nested : plan->operations) perform(nested);
    }
    if (plan->record) deliveries_.emplace_back(id, event);
  };
}

Json Session::perform(const Operation& operation) {
  if (operation.op == "attach") {
    return as_returned(
        nopspan::attach(operation.id, operation.events[0], make_handler(operation), to_value(operation.config)));
  }
  if (operation.op == "attach_many") {
    return as_returned(
        nopspan::attach_many(operation.id, operation.events, make_handler(operation), to_value(operation.config)));
  }
  if (operation.op == "detach") return as_returned(nopspan::detach(operation.id));
  if (operation.op == "list_handlers") {
    Json entries = Json::array();
    for (const nopspan::HandlerInfo& handler : nopspan::list_handlers(operation.prefix)) {
      entries.push_back({{"id", handler.id}, {"event", handler.event}, {"config", to_json(handler.config)}});
    }
    return entries;
  }
  if (operation.op == "execute") {
    nopspan::execute(nopspan::Name::intern(operation.events[0]), [&](nopspan::Fields& fields) {
      set_measurements(fields, operation.measurements);
      set_metadata(fields, operation.metadata);
    });
    return "ok";  // execute() returns nothing and cannot fail
  }
  return run_plain_span(operation.span);
}

// --- Comparing

std::vector<Comparison::Seen> as_seen(const Json& list) {
  std::vector<Comparison::Seen> seen;
  for (const Json& item : list) {
    seen.emplace_back([item](const Json&) { return item; });
  }
  return seen;
}

void Session::compare_result(const Json& expect, const Outcome& outcome, Comparison& comparison) {
  const Json raises = optional(expect, "raises");
  if (raises == "badarg") {
    comparison.add("result", as_returned(nopspan::Errc::invalid_argument),
                   outcome.raised ? Json("an exception") : outcome.returned);
  } else if (!raises.is_null()) {
    comparison.add("raises", raises, as_raised(outcome, raises));
  } else if (outcome.raised) {
    comparison.add("result", "no exception", outcome.failure_class + " " + outcome.type + ": " + outcome.message);
  } else if (expect.contains("returns")) {
    comparison.add("returns", expect["returns"], outcome.returned);
  } else if (outcome.returned == as_returned(nopspan::Errc::invalid_argument)) {
    comparison.add("result", "no error", outcome.returned);
  }
}

void Session::compare_deliveries(const Json& expect, Comparison& comparison) const {
  std::vector<Comparison::Seen> seen;
  for (const Delivery& delivery : deliveries_) {
    seen.emplace_back([&delivery](const Json& expected) { return delivery.as_expected(expected); });
  }
  if (expect.contains("deliveries")) {
    comparison.add_in_order("deliveries", with_dotted_events(expect["deliveries"]), seen);
  }
  if (expect.contains("deliveries_unordered")) {
    comparison.add_in_any_order("deliveries_unordered", with_dotted_events(expect["deliveries_unordered"]), seen);
  }
  if (expect.contains("event_names")) {
    Json expected = Json::array();
    for (const Json& name : expect["event_names"]) expected.push_back(dotted_name(name));
    Json names = Json::array();
    for (const Delivery& delivery : deliveries_) names.push_back(delivery.event_name());
    comparison.add("event_names", expected, names);
  }
  if (expect.contains("same_reason_on_both")) {
    std::set<std::string> reasons;
    std::size_t exceptions = 0;
    for (const Delivery& delivery : deliveries_) {
      if (!delivery.metadata().contains("kind")) continue;
      ++exceptions;
      reasons.insert(optional(delivery.metadata(), "reason").dump());
    }
    comparison.add("same_reason_on_both", expect["same_reason_on_both"], exceptions == 2 && reasons.size() == 1);
  }
}

void Session::compare_logs(const Json& expect, Comparison& comparison) const {
  if (!expect.contains("logs")) return;
  std::vector<Comparison::Seen> seen;
  for (const LogLine& line : logs_) {
    seen.emplace_back([&line](const Json& expected) {
      Json in_its_terms = {{"level", nopspan::to_string(line.level)}, {"mentions", line.message}};
      const Json mentions = optional(expected, "mentions");
      const bool all = std::all_of(mentions.begin(), mentions.end(), [&](const Json& mention) {
        return line.message.find(mention.get<std::string>()) != std::string::npos;
      });
      if (all) in_its_terms["mentions"] = mentions;
      for (const char* key : {"level", "mentions"}) {
        if (expected.is_object() && !expected.contains(key)) in_its_terms.erase(key);
      }
      return in_its_terms;
    });
  }
  comparison.add_in_order("logs", expect["logs"], std::move(seen));
}

void Session::compare_entries(const Json& expect, const Json& returned, Comparison& comparison) {
  if (expect.contains("entries")) {
    comparison.add_in_order("entries", with_dotted_events(expect["entries"]), as_seen(returned));
  }
  if (expect.contains("entries_unordered")) {
    comparison.add_in_any_order("entries_unordered", with_dotted_events(expect["entries_unordered"]),
                                as_seen(returned));
  }
}

Mismatches Session::compare(const Step& step, const Outcome& outcome) {
  Comparison comparison;
  compare_result(step.expect, outcome, comparison);
  compare_entries(step.expect, outcome.returned, comparison);
  compare_deliveries(step.expect, comparison);
  compare_logs(step.expect, comparison);
  return comparison.mismatches(bindings_);
}

}  // namespace

std::vector<Check> run_telemetry_registry(const Json& one_case) {
  const std::vector<Step> steps = parse(one_case);
  Session session;
  std::vector<Check> checks;
  checks.reserve(steps.size());
  for (const Step& step : steps) checks.push_back({step.operation.op, session.run(step)});
  return checks;
}

}  // namespace cases
