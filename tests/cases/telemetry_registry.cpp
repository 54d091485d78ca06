// SPDX-License-Identifier: Apache-2.0
// telemetry_registry.json: steps on the handler registry, each with the result, deliveries and log lines that it must
// cause.
#include <nopspan/execute.h>
#include <nopspan/registry.h>
#include <nopspan/span.h>

#include <algorithm>
#include <memory>
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

// Checks an operation, and those of its handler.
void check_operation(const std::string& op, const Json& args) {
  for (const char* known : {"attach", "attach_many", "detach", "list_handlers", "execute"}) {
    if (op == known) check(args, op);
  }
  if (op == "attach" || op == "attach_many") {
    const Json& handler = args["handler"];
    check(handler, "handler " + handler.value("kind", ""));
    for (Json nested : optional(handler, "ops")) {
      const std::string nested_op = nested["op"];
      nested.erase("op");
      check_operation(nested_op, nested);
    }
  } else if (op == "span") {
    check_span(args, op);
  } else if (op != "detach" && op != "list_handlers" && op != "execute") {
    throw Inexpressible("unknown operation \"" + op + "\"");
  }
}

void check_case(const Json& one_case) {
  check(one_case, "registry");
  if (one_case["steps"].empty()) throw Inexpressible("a case without steps");
  for (const Json& step : one_case["steps"]) {
    check(step, "step");
    const Json& expect = step["expect"];
    check(expect, "expect step");
    const bool has_entries = expect.contains("entries") || expect.contains("entries_unordered");
    if (has_entries && step["op"] != "list_handlers") throw Inexpressible("entries of " + step["op"].dump());
    check_operation(step["op"], step["args"]);
  }
}

// The registry during one case, and the calls that its handlers recorded.
class Session {
 public:
  Session() = default;
  ~Session() {
    for (const nopspan::HandlerInfo& handler : nopspan::list_handlers()) static_cast<void>(nopspan::detach(handler.id));
  }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Mismatches run(const Json& step) {
    deliveries_.clear();
    log_.lines.clear();
    const Json& args = step["args"];
    const Outcome outcome =
        observe([&] { return perform(step["op"], args); }, step["op"] == "span" ? args["body"] : Json::object());
    const Json& expect = step["expect"];
    Comparison comparison;
    compare_outcome(expect, outcome, comparison);
    compare_entries(expect, outcome.returned, comparison);
    compare_deliveries(expect, comparison);
    compare_log(expect, comparison);
    return comparison.mismatches(bindings_);
  }

 private:
  Json perform(const std::string& op, const Json& args);
  nopspan::Handler make_handler(const Json& args);
  static void compare_entries(const Json& expect, const Json& returned, Comparison& comparison);
  void compare_deliveries(const Json& expect, Comparison& comparison) const;
  void compare_log(const Json& expect, Comparison& comparison) const;

  std::vector<Delivery> deliveries_;
  Log log_;
  Bindings bindings_;
};

Json run_plain_span(const Json& call) {
  const nopspan::Name name = nopspan::Name::intern(dotted_name(call["prefix"]));
  const Json metadata = optional(call, "start_metadata");
  return nopspan::span(
      name, [&](nopspan::Fields& fields) { set_metadata(fields, metadata); }, SpanBody(call["body"], run_plain_span));
}

// A handler records the call, fails, or runs operations and maybe records the call then.
nopspan::Handler Session::make_handler(const Json& args) {
  auto ran = std::make_shared<bool>(false);
  return [this, id = args["id"].get<std::string>(), plan = args["handler"], ran](const nopspan::Event& event) {
    if (plan["kind"] == "fail") fail(plan);
    if (!plan.value("once", false) || !*ran) {
      *ran = true;
      for (const Json& nested : optional(plan, "ops")) perform(nested["op"], nested);
    }
    if (plan["kind"] == "record" || plan.value("record", false)) deliveries_.emplace_back(id, event);
  };
}

Json Session::perform(const std::string& op, const Json& args) {
  if (op == "attach" || op == "attach_many") {
    const std::string id = args["id"];
    const nopspan::Value config = to_value(optional(args, "config"));
    if (op == "attach") {
      return as_returned(nopspan::attach(id, dotted_name(args["event"]), make_handler(args), config));
    }
    const std::vector<std::string> events = dotted_names(args["events"]);
    return as_returned(nopspan::attach_many(id, events, make_handler(args), config));
  }
  if (op == "detach") return as_returned(nopspan::detach(args["id"].get<std::string>()));
  if (op == "list_handlers") {
    Json entries = Json::array();
    for (const nopspan::HandlerInfo& handler : nopspan::list_handlers(dotted_name(args["prefix"]))) {
      entries.push_back({{"id", handler.id}, {"event", handler.event}, {"config", to_json(handler.config)}});
    }
    return entries;
  }
  if (op == "execute") {
    nopspan::execute(nopspan::Name::intern(dotted_name(args["event"])), [&](nopspan::Fields& fields) {
      set_measurements(fields, optional(args, "measurements"));
      set_metadata(fields, optional(args, "metadata"));
    });
    return "ok";  // execute() returns nothing and cannot fail
  }
  return run_plain_span(args);
}

void Session::compare_entries(const Json& expect, const Json& returned, Comparison& comparison) {
  const auto as_returned = [](const Json& entry, const Json&) { return entry; };
  if (expect.contains("entries")) {
    comparison.add_list("entries", with_dotted_events(expect["entries"]), returned, as_returned);
  }
  if (expect.contains("entries_unordered")) {
    comparison.add_unordered("entries_unordered", with_dotted_events(expect["entries_unordered"]), returned,
                             as_returned);
  }
}

void Session::compare_deliveries(const Json& expect, Comparison& comparison) const {
  const auto as_expected = [](const Delivery& delivery, const Json& expected) {
    return delivery.as_expected(expected);
  };
  if (expect.contains("deliveries")) {
    comparison.add_list("deliveries", with_dotted_events(expect["deliveries"]), deliveries_, as_expected);
  }
  if (expect.contains("deliveries_unordered")) {
    comparison.add_unordered("deliveries_unordered", with_dotted_events(expect["deliveries_unordered"]), deliveries_,
                             as_expected);
  }
  compare_names(expect, deliveries_, comparison);
  if (expect.contains("same_reason_on_both")) {
    std::multiset<std::string> reasons;
    for (const Delivery& delivery : deliveries_) {
      if (delivery.metadata().contains("kind")) reasons.insert(optional(delivery.metadata(), "reason").dump());
    }
    comparison.add("same_reason_on_both", expect["same_reason_on_both"],
                   reasons.size() == 2 && reasons.count(*reasons.begin()) == 2);
  }
}

void Session::compare_log(const Json& expect, Comparison& comparison) const {
  if (!expect.contains("logs")) return;
  comparison.add_list("logs", expect["logs"], log_.lines, [](const Log::Line& line, const Json& expected) {
    const Json mentions = optional(expected, "mentions");
    const bool all = std::all_of(mentions.begin(), mentions.end(), [&](const Json& mention) {
      return line.message.find(mention.get<std::string>()) != std::string::npos;
    });
    const Json seen = {{"level", nopspan::to_string(line.level)}, {"mentions", all ? mentions : Json(line.message)}};
    return expected.is_object() ? only_named(seen, expected) : seen;
  });
}

}  // namespace

std::vector<Check> run_telemetry_registry(const Json& one_case) {
  check_case(one_case);
  Session session;
  std::vector<Check> checks;
  for (const Json& step : one_case["steps"]) checks.push_back({step["op"], session.run(step)});
  return checks;
}

}  // namespace cases
