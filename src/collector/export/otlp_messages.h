// SPDX-License-Identifier: Apache-2.0
// The messages and fields of OTLP 1.11 (opentelemetry-proto), with their names in JSON. The two fields that only
// profiles use (key_strindex, string_value_strindex) are left out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>

namespace nopspan::collector::otlp {

enum class Form : std::uint8_t {
  traces,
  resource_spans,
  scope_spans,
  span,
  span_event,
  link,
  status,
  logs,
  resource_logs,
  scope_logs,
  log_record,
  metrics,
  resource_metrics,
  scope_metrics,
  metric,
  gauge,
  sum,
  histogram,
  number_point,
  histogram_point,
  exponential_histogram,
  exponential_point,
  buckets,
  summary,
  summary_point,
  quantile,
  exemplar,
  resource,
  entity,
  scope,
  key_value,
  any_value,
  list,
  key_value_list,
  count
};

// The types of protobuf, and two that OTLP/JSON treats specially: enums are int32, and ids are hexadecimal.
enum class Type : std::uint8_t {
  boolean,
  int32,
  uint32,
  sint32,
  int64,
  uint64,
  fixed32,
  fixed64,
  sfixed64,
  real,
  text,
  bytes,
  id,
  message
};

enum class Label : std::uint8_t { single, repeated, oneof };  // no message has two oneofs

struct Field {
  std::uint8_t number;
  const char* name;
  Type type;
  Label label = Label::single;
  Form form = Form::count;  // of a message
};

constexpr Field text_field(std::uint8_t number, const char* name) { return {number, name, Type::text}; }
constexpr Field one(std::uint8_t number, const char* name, Form form) {
  return {number, name, Type::message, Label::single, form};
}
constexpr Field many(std::uint8_t number, const char* name, Form form) {
  return {number, name, Type::message, Label::repeated, form};
}
constexpr Field either(std::uint8_t number, const char* name, Type type, Form form = Form::count) {
  return {number, name, type, Label::oneof, form};
}

constexpr Field kTraces[] = {many(1, "resourceSpans", Form::resource_spans)};
constexpr Field kResourceSpans[] = {one(1, "resource", Form::resource), many(2, "scopeSpans", Form::scope_spans),
                                    text_field(3, "schemaUrl")};
constexpr Field kScopeSpans[] = {one(1, "scope", Form::scope), many(2, "spans", Form::span),
                                 text_field(3, "schemaUrl")};
constexpr Field kSpan[] = {
    {1, "traceId", Type::id},
    {2, "spanId", Type::id},
    text_field(3, "traceState"),
    {4, "parentSpanId", Type::id},
    {16, "flags", Type::fixed32},
    text_field(5, "name"),
    {6, "kind", Type::int32},
    {7, "startTimeUnixNano", Type::fixed64},
    {8, "endTimeUnixNano", Type::fixed64},
    many(9, "attributes", Form::key_value),
    {10, "droppedAttributesCount", Type::uint32},
    many(11, "events", Form::span_event),
    {12, "droppedEventsCount", Type::uint32},
    many(13, "links", Form::link),
    {14, "droppedLinksCount", Type::uint32},
    one(15, "status", Form::status),
};
constexpr Field kSpanEvent[] = {{1, "timeUnixNano", Type::fixed64},
                                text_field(2, "name"),
                                many(3, "attributes", Form::key_value),
                                {4, "droppedAttributesCount", Type::uint32}};
constexpr Field kLink[] = {{1, "traceId", Type::id},
                           {2, "spanId", Type::id},
                           text_field(3, "traceState"),
                           many(4, "attributes", Form::key_value),
                           {5, "droppedAttributesCount", Type::uint32},
                           {6, "flags", Type::fixed32}};
constexpr Field kStatus[] = {text_field(2, "message"), {3, "code", Type::int32}};

constexpr Field kLogs[] = {many(1, "resourceLogs", Form::resource_logs)};
constexpr Field kResourceLogs[] = {one(1, "resource", Form::resource), many(2, "scopeLogs", Form::scope_logs),
                                   text_field(3, "schemaUrl")};
constexpr Field kScopeLogs[] = {one(1, "scope", Form::scope), many(2, "logRecords", Form::log_record),
                                text_field(3, "schemaUrl")};
constexpr Field kLogRecord[] = {
    {1, "timeUnixNano", Type::fixed64},
    {11, "observedTimeUnixNano", Type::fixed64},
    {2, "severityNumber", Type::int32},
    text_field(3, "severityText"),
    one(5, "body", Form::any_value),
    many(6, "attributes", Form::key_value),
    {7, "droppedAttributesCount", Type::uint32},
    {8, "flags", Type::fixed32},
    {9, "traceId", Type::id},
    {10, "spanId", Type::id},
    text_field(12, "eventName"),
};

constexpr Field kMetrics[] = {many(1, "resourceMetrics", Form::resource_metrics)};
constexpr Field kResourceMetrics[] = {one(1, "resource", Form::resource), many(2, "scopeMetrics", Form::scope_metrics),
                                      text_field(3, "schemaUrl")};
constexpr Field kScopeMetrics[] = {one(1, "scope", Form::scope), many(2, "metrics", Form::metric),
                                   text_field(3, "schemaUrl")};
constexpr Field kMetric[] = {
    text_field(1, "name"),
    text_field(2, "description"),
    text_field(3, "unit"),
    either(5, "gauge", Type::message, Form::gauge),
    either(7, "sum", Type::message, Form::sum),
    either(9, "histogram", Type::message, Form::histogram),
    either(10, "exponentialHistogram", Type::message, Form::exponential_histogram),
    either(11, "summary", Type::message, Form::summary),
    many(12, "metadata", Form::key_value),
};
constexpr Field kTemporality = {2, "aggregationTemporality", Type::int32};
constexpr Field kGauge[] = {many(1, "dataPoints", Form::number_point)};
constexpr Field kSum[] = {many(1, "dataPoints", Form::number_point), kTemporality, {3, "isMonotonic", Type::boolean}};
constexpr Field kHistogram[] = {many(1, "dataPoints", Form::histogram_point), kTemporality};
constexpr Field kExponentialHistogram[] = {many(1, "dataPoints", Form::exponential_point), kTemporality};
constexpr Field kSummary[] = {many(1, "dataPoints", Form::summary_point)};
constexpr Field kPointStart = {2, "startTimeUnixNano", Type::fixed64}, kPointTime = {3, "timeUnixNano", Type::fixed64},
                kPointCount = {4, "count", Type::fixed64};
constexpr Field kNumberPoint[] = {many(7, "attributes", Form::key_value),
                                  kPointStart,
                                  kPointTime,
                                  either(4, "asDouble", Type::real),
                                  either(6, "asInt", Type::sfixed64),
                                  many(5, "exemplars", Form::exemplar),
                                  {8, "flags", Type::uint32}};
constexpr Field kHistogramPoint[] = {
    many(9, "attributes", Form::key_value),
    kPointStart,
    kPointTime,
    kPointCount,
    {5, "sum", Type::real},
    {6, "bucketCounts", Type::fixed64, Label::repeated},
    {7, "explicitBounds", Type::real, Label::repeated},
    many(8, "exemplars", Form::exemplar),
    {10, "flags", Type::uint32},
    {11, "min", Type::real},
    {12, "max", Type::real},
};
constexpr Field kExponentialPoint[] = {
    many(1, "attributes", Form::key_value),
    kPointStart,
    kPointTime,
    kPointCount,
    {5, "sum", Type::real},
    {6, "scale", Type::sint32},
    {7, "zeroCount", Type::fixed64},
    one(8, "positive", Form::buckets),
    one(9, "negative", Form::buckets),
    {10, "flags", Type::uint32},
    many(11, "exemplars", Form::exemplar),
    {12, "min", Type::real},
    {13, "max", Type::real},
    {14, "zeroThreshold", Type::real},
};
constexpr Field kBuckets[] = {{1, "offset", Type::sint32}, {2, "bucketCounts", Type::uint64, Label::repeated}};
constexpr Field kSummaryPoint[] = {many(7, "attributes", Form::key_value),
                                   kPointStart,
                                   kPointTime,
                                   kPointCount,
                                   {5, "sum", Type::real},
                                   many(6, "quantileValues", Form::quantile),
                                   {8, "flags", Type::uint32}};
constexpr Field kQuantile[] = {{1, "quantile", Type::real}, {2, "value", Type::real}};
constexpr Field kExemplar[] = {many(7, "filteredAttributes", Form::key_value),
                               {2, "timeUnixNano", Type::fixed64},
                               either(3, "asDouble", Type::real),
                               either(6, "asInt", Type::sfixed64),
                               {4, "spanId", Type::id},
                               {5, "traceId", Type::id}};

constexpr Field kResource[] = {many(1, "attributes", Form::key_value),
                               {2, "droppedAttributesCount", Type::uint32},
                               many(3, "entityRefs", Form::entity)};
constexpr Field kEntity[] = {text_field(1, "schemaUrl"),
                             text_field(2, "type"),
                             {3, "idKeys", Type::text, Label::repeated},
                             {4, "descriptionKeys", Type::text, Label::repeated}};
constexpr Field kScope[] = {text_field(1, "name"),
                            text_field(2, "version"),
                            many(3, "attributes", Form::key_value),
                            {4, "droppedAttributesCount", Type::uint32}};
constexpr Field kKeyValue[] = {text_field(1, "key"), one(2, "value", Form::any_value)};
constexpr Field kAnyValue[] = {
    either(1, "stringValue", Type::text),
    either(2, "boolValue", Type::boolean),
    either(3, "intValue", Type::int64),
    either(4, "doubleValue", Type::real),
    either(5, "arrayValue", Type::message, Form::list),
    either(6, "kvlistValue", Type::message, Form::key_value_list),
    either(7, "bytesValue", Type::bytes),
};
constexpr Field kList[] = {many(1, "values", Form::any_value)};

constexpr Field kKeyValueList[] = {many(1, "values", Form::key_value)};

// In the order of Form.
constexpr std::span<const Field> kForms[] = {
    kTraces,
    kResourceSpans,
    kScopeSpans,
    kSpan,
    kSpanEvent,
    kLink,
    kStatus,
    kLogs,
    kResourceLogs,
    kScopeLogs,
    kLogRecord,
    kMetrics,
    kResourceMetrics,
    kScopeMetrics,
    kMetric,
    kGauge,
    kSum,
    kHistogram,
    kNumberPoint,
    kHistogramPoint,
    kExponentialHistogram,
    kExponentialPoint,
    kBuckets,
    kSummary,
    kSummaryPoint,
    kQuantile,
    kExemplar,
    kResource,
    kEntity,
    kScope,
    kKeyValue,
    kAnyValue,
    kList,
    kKeyValueList,
};
static_assert(std::size(kForms) == static_cast<std::size_t>(Form::count));

}  // namespace nopspan::collector::otlp
