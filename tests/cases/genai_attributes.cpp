// SPDX-License-Identifier: Apache-2.0
// genai_attributes.json: metadata, and the attributes or the value that a function derives from it.
#include <nopspan/genai.h>

#include "attributes.h"
#include "runner.h"
#include "values.h"

namespace cases {
namespace {

using nopspan::Value;
namespace genai = nopspan::genai;

struct Function {
  std::string_view name;
  Value (*call)(const Value& metadata);
  bool gives_attributes;
};

constexpr Function kFunctions[] = {
    {"start", genai::start, true},
    {"terminal", genai::terminal, true},
    {"exception", genai::exception, true},
    {"exception_event", genai::exception_event, true},
    {"error_type", [](const Value& metadata) { return Value(genai::error_type(metadata)); }, false},
    {"error_status", genai::error_status, false},
    {"provider_name", genai::provider_name, false},
    {"request_model", genai::request_model, false},
    {"streaming_ttfc_seconds", genai::streaming_ttfc_seconds, false},
    {"cost_breakdown", genai::cost_breakdown, false},
};

const Function& find_function(const std::string& name) {
  for (const Function& function : kFunctions) {
    if (function.name == name) return function;
  }
  throw Inexpressible("unknown function \"" + name + "\"");
}

// present() returns its argument, or nothing.
void run_present(const Json& input, const Json& expected, Comparison& comparison) {
  only_keys(input, "the input of present", {"value"});
  only_keys(expected, "an expectation", {"value"});
  const Value value = to_value(required(input, "the input of present", "value"));
  const Value* present = genai::present(value);
  const Json seen = present == nullptr ? Json{{"absent", true}} : Json{{"kept", to_json(*present)}};
  comparison.add("value", required(expected, "an expectation", "value"), seen);
  comparison.add("is the value itself", true, present == nullptr || present == &value);
}

}  // namespace

std::vector<Check> run_genai_attributes(const Json& one_case) {
  check_genai_case(one_case);
  const std::string name = required_string(one_case, "a case", "function");
  const Json& input = required(one_case, "a case", "input");
  const Json& expected = required(one_case, "a case", "expected");
  Comparison comparison;
  if (name == "present") {
    run_present(input, expected, comparison);
  } else {
    const Function& function = find_function(name);
    const Value metadata = to_metadata(input);
    if (function.gives_attributes) {
      check_attributes(expected);
      compare_attributes(expected, function.call(metadata), comparison);
    } else {
      only_keys(expected, "an expectation", {"value"});
      required(expected, "an expectation", "value");
      compare_value(expected, function.call(metadata), comparison);
    }
  }
  Bindings bindings;
  return {{name, comparison.mismatches(bindings)}};
}

}  // namespace cases
