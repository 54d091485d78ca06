// SPDX-License-Identifier: Apache-2.0
// The messages and fields of OTLP 1.11 (opentelemetry-proto), with their names in JSON. The two fields that only
// profiles use (key_strindex, string_value_strindex) are left out.
#pragma once

#include <cstdint>
#include <initializer_list>

namespace nopspan::collector::otlp {

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

struct Field;
using Form = std::initializer_list<Field>;  // of a message: its fields

struct Field {
  std::uint8_t number;
  const char* name;
  Type type;
  Label label = Label::single;
  const Form* form = nullptr;  // of a message
};

constexpr Field text_field(std::uint8_t number, const char* name) { return {number, name, Type::text}; }
constexpr Field one(std::uint8_t number, const char* name, const Form& form) {
  return {number, name, Type::message, Label::single, &form};
}
constexpr Field many(std::uint8_t number, const char* name, const Form& form) {
  return {number, name, Type::message, Label::repeated, &form};
}
constexpr Field either(std::uint8_t number, const char* name, Type type) { return {number, name, type, Label::oneof}; }
constexpr Field either(std::uint8_t number, const char* name, const Form& form) {
  return {number, name, Type::message, Label::oneof, &form};
}

extern const Form kAnyValue;  // may contain itself
constexpr Form kKeyValue = {text_field(1, "key"), one(2, "value", kAnyValue)};
constexpr Form kList = {many(1, "values", kAnyValue)};
constexpr Form kKeyValueList = {many(1, "values", kKeyValue)};
inline constexpr Form kAnyValue = {
    either(1, "stringValue", Type::text), either(2, "boolValue", Type::boolean),
    either(3, "intValue", Type::int64),   either(4, "doubleValue", Type::real),
    either(5, "arrayValue", kList),       either(6, "kvlistValue", kKeyValueList),
    either(7, "bytesValue", Type::bytes),
};
constexpr Form kEntity = {text_field(1, "schemaUrl"),
                          text_field(2, "type"),
                          {3, "idKeys", Type::text, Label::repeated},
                          {4, "descriptionKeys", Type::text, Label::repeated}};
constexpr Form kResource = {
    many(1, "attributes", kKeyValue), {2, "droppedAttributesCount", Type::uint32}, many(3, "entityRefs", kEntity)};
constexpr Form kScope = {text_field(1, "name"),
                         text_field(2, "version"),
                         many(3, "attributes", kKeyValue),
                         {4, "droppedAttributesCount", Type::uint32}};

constexpr Form kStatus = {text_field(2, "message"), {3, "code", Type::int32}};
constexpr Form kLink = {{1, "traceId", Type::id},
                        {2, "spanId", Type::id},
                        text_field(3, "traceState"),
                        many(4, "attributes", kKeyValue),
                        {5, "droppedAttributesCount", Type::uint32},
                        {6, "flags", Type::fixed32}};
constexpr Form kSpanEvent = {{1, "timeUnixNano", Type::fixed64},
                             text_field(2, "name"),
                             many(3, "attributes", kKeyValue),
                             {4, "droppedAttributesCount", Type::uint32}};
constexpr Form kSpan = {
    {1, "traceId", Type::id},
    {2, "spanId", Type::id},
    text_field(3, "traceState"),
    {4, "parentSpanId", Type::id},
    {16, "flags", Type::fixed32},
    text_field(5, "name"),
    {6, "kind", Type::int32},
    {7, "startTimeUnixNano", Type::fixed64},
    {8, "endTimeUnixNano", Type::fixed64},
    many(9, "attributes", kKeyValue),
    {10, "droppedAttributesCount", Type::uint32},
    many(11, "events", kSpanEvent),
    {12, "droppedEventsCount", Type::uint32},
    many(13, "links", kLink),
    {14, "droppedLinksCount", Type::uint32},
    one(15, "status", kStatus),
};
constexpr Form kScopeSpans = {one(1, "scope", kScope), many(2, "spans", kSpan), text_field(3, "schemaUrl")};
constexpr Form kResourceSpans = {one(1, "resource", kResource), many(2, "scopeSpans", kScopeSpans),
                                 text_field(3, "schemaUrl")};
constexpr Form kTraces = {many(1, "resourceSpans", kResourceSpans)};

constexpr Form kLogRecord = {
    {1, "timeUnixNano", Type::fixed64},
    {11, "observedTimeUnixNano", Type::fixed64},
    {2, "severityNumber", Type::int32},
    text_field(3, "severityText"),
    one(5, "body", kAnyValue),
    many(6, "attributes", kKeyValue),
    {7, "droppedAttributesCount", Type::uint32},
    {8, "flags", Type::fixed32},
    {9, "traceId", Type::id},
    {10, "spanId", Type::id},
    text_field(12, "eventName"),
};
constexpr Form kScopeLogs = {one(1, "scope", kScope), many(2, "logRecords", kLogRecord), text_field(3, "schemaUrl")};
constexpr Form kResourceLogs = {one(1, "resource", kResource), many(2, "scopeLogs", kScopeLogs),
                                text_field(3, "schemaUrl")};
constexpr Form kLogs = {many(1, "resourceLogs", kResourceLogs)};

constexpr Form kExemplar = {many(7, "filteredAttributes", kKeyValue),
                            {2, "timeUnixNano", Type::fixed64},
                            either(3, "asDouble", Type::real),
                            either(6, "asInt", Type::sfixed64),
                            {4, "spanId", Type::id},
                            {5, "traceId", Type::id}};
constexpr Form kQuantile = {{1, "quantile", Type::real}, {2, "value", Type::real}};
constexpr Form kBuckets = {{1, "offset", Type::sint32}, {2, "bucketCounts", Type::uint64, Label::repeated}};
constexpr Field kPointStart = {2, "startTimeUnixNano", Type::fixed64}, kPointTime = {3, "timeUnixNano", Type::fixed64},
                kPointCount = {4, "count", Type::fixed64};
constexpr Form kNumberPoint = {many(7, "attributes", kKeyValue),
                               kPointStart,
                               kPointTime,
                               either(4, "asDouble", Type::real),
                               either(6, "asInt", Type::sfixed64),
                               many(5, "exemplars", kExemplar),
                               {8, "flags", Type::uint32}};
constexpr Form kHistogramPoint = {
    many(9, "attributes", kKeyValue),
    kPointStart,
    kPointTime,
    kPointCount,
    {5, "sum", Type::real},
    {6, "bucketCounts", Type::fixed64, Label::repeated},
    {7, "explicitBounds", Type::real, Label::repeated},
    many(8, "exemplars", kExemplar),
    {10, "flags", Type::uint32},
    {11, "min", Type::real},
    {12, "max", Type::real},
};
constexpr Form kExponentialPoint = {
    many(1, "attributes", kKeyValue),
    kPointStart,
    kPointTime,
    kPointCount,
    {5, "sum", Type::real},
    {6, "scale", Type::sint32},
    {7, "zeroCount", Type::fixed64},
    one(8, "positive", kBuckets),
    one(9, "negative", kBuckets),
    {10, "flags", Type::uint32},
    many(11, "exemplars", kExemplar),
    {12, "min", Type::real},
    {13, "max", Type::real},
    {14, "zeroThreshold", Type::real},
};
constexpr Form kSummaryPoint = {many(7, "attributes", kKeyValue),
                                kPointStart,
                                kPointTime,
                                kPointCount,
                                {5, "sum", Type::real},
                                many(6, "quantileValues", kQuantile),
                                {8, "flags", Type::uint32}};
constexpr Field kTemporality = {2, "aggregationTemporality", Type::int32};
constexpr Form kGauge = {many(1, "dataPoints", kNumberPoint)};
constexpr Form kSum = {many(1, "dataPoints", kNumberPoint), kTemporality, {3, "isMonotonic", Type::boolean}};
constexpr Form kHistogram = {many(1, "dataPoints", kHistogramPoint), kTemporality};
constexpr Form kExponentialHistogram = {many(1, "dataPoints", kExponentialPoint), kTemporality};
constexpr Form kSummary = {many(1, "dataPoints", kSummaryPoint)};
constexpr Form kMetric = {
    text_field(1, "name"),
    text_field(2, "description"),
    text_field(3, "unit"),
    either(5, "gauge", kGauge),
    either(7, "sum", kSum),
    either(9, "histogram", kHistogram),
    either(10, "exponentialHistogram", kExponentialHistogram),
    either(11, "summary", kSummary),
    many(12, "metadata", kKeyValue),
};
constexpr Form kScopeMetrics = {one(1, "scope", kScope), many(2, "metrics", kMetric), text_field(3, "schemaUrl")};
constexpr Form kResourceMetrics = {one(1, "resource", kResource), many(2, "scopeMetrics", kScopeMetrics),
                                   text_field(3, "schemaUrl")};
constexpr Form kMetrics = {many(1, "resourceMetrics", kResourceMetrics)};

}  // namespace nopspan::collector::otlp
