// SPDX-License-Identifier: Apache-2.0
// genai_spans_metrics.json: names and status of spans, and the metrics that a span's end records.
#include <nopspan/genai.h>

#include <cstdint>

#include "attributes.h"
#include "runner.h"
#include "values.h"

namespace cases {
namespace {

using nopspan::Value;
namespace genai = nopspan::genai;

struct MetricFunction {
  std::string_view name;
  Value (*call)(const Json& input);
};

Value operation_name(const Json& input) { return genai::operation_name(to_metadata(input)); }
Value output_type(const Json& input) { return genai::output_type(to_metadata(input)); }
Value span_status(const Json& input) { return genai::span_status(to_metadata(input)); }

Value span_name(const Json& input) {
  only_keys(input, "the input of span_name", {"operation", "model_id"});
  const auto text = [&](const char* key) {
    const Json& given = required(input, "the input of span_name", key);
    if (given.is_null()) return nopspan::Text();
    if (!given.is_string()) throw Inexpressible("no string: " + given.dump());
    return nopspan::Text(given.get_ref<const std::string&>());
  };
  return genai::span_name(text("operation"), text("model_id"));
}

template <auto record>
Value metrics(const Json& input) {
  only_keys(input, "the input of metrics", {"metadata", "duration_ns"});
  const Value metadata = to_metadata(required(input, "the input of metrics", "metadata"));
  const Json& duration = required(input, "the input of metrics", "duration_ns");
  if (!duration.is_null() && !duration.is_number_integer()) throw Inexpressible("duration_ns: " + duration.dump());
  Value::List list;
  for (genai::Metric& metric : record(metadata, duration.is_null() ? -1 : duration.get<std::int64_t>())) {
    list.push_back(
        Value::map({{"name", metric.name},
                    {"unit", metric.unit},
                    {"value", std::move(metric.value)},
                    {"boundaries", Value::List(metric.boundaries, metric.boundaries + metric.boundary_count)},
                    {"attributes", std::move(metric.attributes)}}));
  }
  return list;
}

constexpr MetricFunction kMetricFunctions[] = {
    {"operation_name", operation_name},
    {"output_type", output_type},
    {"span_name", span_name},
    {"span_status", span_status},
    {"metrics_stop", metrics<genai::metrics_stop>},
    {"metrics_exception", metrics<genai::metrics_exception>},
};

// Metrics with nopspan's keys. Boundaries are doubles, even if they are written as integers.
Json as_expected(Json value) {
  if (!value.is_array()) return value;
  for (Json& metric : value) {
    if (!metric.is_object()) continue;
    only_keys(metric, "a metric", {"name", "unit", "value", "boundaries", "attributes"});
    if (metric.contains("attributes")) metric["attributes"] = with_own_prefix(metric["attributes"]);
    if (!metric.contains("boundaries")) continue;
    for (Json& boundary : metric["boundaries"]) {
      if (boundary.is_number()) boundary = boundary.get<double>();
    }
  }
  return value;
}

}  // namespace

std::vector<Check> run_genai_spans_metrics(const Json& one_case) {
  check_genai_case(one_case);
  const std::string name = required_string(one_case, "a case", "function");
  const Json& input = required(one_case, "a case", "input");
  Json expected = required(one_case, "a case", "expected");
  only_keys(expected, "an expectation", {"value"});
  expected["value"] = as_expected(required(expected, "an expectation", "value"));
  for (const MetricFunction& function : kMetricFunctions) {
    if (function.name != name) continue;
    Comparison comparison;
    compare_value(expected, function.call(input), comparison);
    Bindings bindings;
    return {{name, comparison.mismatches(bindings)}};
  }
  throw Inexpressible("unknown function \"" + name + "\"");
}

}  // namespace cases
