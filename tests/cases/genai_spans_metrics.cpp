// SPDX-License-Identifier: Apache-2.0
// genai_spans_metrics.json: names and status of spans, the metrics that a span's end records, and the conventions'
// renames.
#include <nopspan/event.h>
#include <nopspan/genai.h>
#include <nopspan/registry.h>
#include <nopspan/semconv.h>
#include <nopspan/span.h>

#include <cstdint>
#include <string>
#include <utility>

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

Value renamed(const Json& input) {
  only_keys(input, "the input of renamed", {"key", "version", "operation"});
  const std::string version = required_string(input, "the input of renamed", "version");
  if (version != "v1_41" && version != "next") throw Inexpressible("unknown version: " + version);
  const Json& operation = optional(input, "operation");
  return nopspan::semconv::renamed(
      required_string(input, "the input of renamed", "key"),
      version == "next" ? nopspan::Semconv::next : nopspan::Semconv::v1_41,
      operation.is_null() ? std::string_view() : std::string_view(operation.get_ref<const std::string&>()));
}

// What an exporter takes from the end of a span of this name, with these fields: the conventions' name, the attributes,
// and the name, unit and attributes of each metric.
Value exported(const Json& input) {
  only_keys(input, "the input of exported", {"span", "metadata", "measurements", "fails"});
  static constexpr const char* kId = "cases.genai_spans_metrics";
  const std::string span_name = required_string(input, "the input of exported", "span");
  const Json& metadata = optional(input, "metadata");
  const Json& measurements = optional(input, "measurements");
  const Json& fails = optional(input, "fails");
  check_metadata(metadata);
  check_measurements(measurements);
  Value seen;
  static_cast<void>(nopspan::attach(kId, span_name + ".stop", [&](const nopspan::Event& event) {
    Value::Map attributes;
    for (auto& [key, value] : event.attributes().copy().as_map()) {
      if (key != "nopspan.request_id") attributes.emplace_back(key, std::move(value));
    }
    Value::List metrics;
    for (genai::Metric& metric : genai::metrics(event)) {
      metrics.push_back(
          Value::map({{"name", metric.name}, {"unit", metric.unit}, {"attributes", std::move(metric.attributes)}}));
    }
    seen = Value::map({{"name", genai::span_name(event)}, {"attributes", attributes}, {"metrics", metrics}});
  }));
  {
    nopspan::Span span(span_name, [&](nopspan::Fields& fields) { set_metadata(fields, metadata); });
    span.with([&](nopspan::Fields& fields) { set_measurements(fields, measurements); });
    if (fails.is_string()) span.fail(fails.get_ref<const std::string&>());
  }
  static_cast<void>(nopspan::detach(kId));
  return seen;
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
    {"renamed", renamed},
    {"exported", exported},
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
