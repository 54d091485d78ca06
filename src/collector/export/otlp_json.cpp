// SPDX-License-Identifier: Apache-2.0
#include "base/json_writer.h"
#include "base/protobuf.h"
#include "base/text.h"
#include "base/utf8.h"
#include "export/export_body.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <initializer_list>

namespace nopspan::collector {
// The messages and fields of OTLP 1.11 (opentelemetry-proto) that ExportEncoder and otlp_metrics() write, with their
// names in JSON.
namespace otlp {

// The types of protobuf, and two that OTLP/JSON treats specially: enums are int32, and ids are hexadecimal.
enum class Type : std::uint8_t {
  boolean,
  int32,
  uint32,
  int64,
  fixed32,
  fixed64,
  sfixed64,
  real,
  text,
  bytes,
  id,
  message
};

struct Field;
using Form = std::initializer_list<Field>;  // of a message: its fields

struct Field {
  std::uint8_t number;  // less than 32
  const char* name;
  Type type;
  const Form* form = nullptr;  // of a message
  bool is_repeated = false;
};

constexpr Field one(std::uint8_t number, const char* name, const Form& form) {
  return {number, name, Type::message, &form};
}
constexpr Field many(std::uint8_t number, const char* name, const Form& form) {
  return {number, name, Type::message, &form, true};
}

extern const Form kAnyValue;  // may contain itself
constexpr Form kKeyValue = {{1, "key", Type::text}, one(2, "value", kAnyValue)};
constexpr Form kList = {many(1, "values", kAnyValue)};
constexpr Form kKeyValueList = {many(1, "values", kKeyValue)};
inline constexpr Form kAnyValue = {
    {1, "stringValue", Type::text}, {2, "boolValue", Type::boolean}, {3, "intValue", Type::int64},
    {4, "doubleValue", Type::real}, one(5, "arrayValue", kList),     one(6, "kvlistValue", kKeyValueList),
    {7, "bytesValue", Type::bytes},
};
constexpr Form kResource = {many(1, "attributes", kKeyValue), {2, "droppedAttributesCount", Type::uint32}};
constexpr Field kSchemaUrl = {3, "schemaUrl", Type::text};  // of resources and scopes with items
constexpr Form kScope = {{1, "name", Type::text}, {2, "version", Type::text}};

constexpr Form kStatus = {{2, "message", Type::text}, {3, "code", Type::int32}};
constexpr Form kLink = {
    {1, "traceId", Type::id}, {2, "spanId", Type::id}, {3, "traceState", Type::text}, {6, "flags", Type::fixed32}};
constexpr Form kSpanEvent = {{1, "timeUnixNano", Type::fixed64},
                             {2, "name", Type::text},
                             many(3, "attributes", kKeyValue),
                             {4, "droppedAttributesCount", Type::uint32}};
constexpr Form kSpan = {
    {1, "traceId", Type::id},
    {2, "spanId", Type::id},
    {3, "traceState", Type::text},
    {4, "parentSpanId", Type::id},
    {5, "name", Type::text},
    {6, "kind", Type::int32},
    {7, "startTimeUnixNano", Type::fixed64},
    {8, "endTimeUnixNano", Type::fixed64},
    many(9, "attributes", kKeyValue),
    {10, "droppedAttributesCount", Type::uint32},
    many(11, "events", kSpanEvent),
    many(13, "links", kLink),
    {14, "droppedLinksCount", Type::uint32},
    one(15, "status", kStatus),
    {16, "flags", Type::fixed32},
};
constexpr Form kScopeSpans = {one(1, "scope", kScope), many(2, "spans", kSpan), kSchemaUrl};
constexpr Form kResourceSpans = {one(1, "resource", kResource), many(2, "scopeSpans", kScopeSpans), kSchemaUrl};
constexpr Form kTraces = {many(1, "resourceSpans", kResourceSpans)};

constexpr Form kLogRecord = {
    {1, "timeUnixNano", Type::fixed64},
    {2, "severityNumber", Type::int32},
    {3, "severityText", Type::text},
    many(6, "attributes", kKeyValue),
    {7, "droppedAttributesCount", Type::uint32},
    {8, "flags", Type::fixed32},
    {9, "traceId", Type::id},
    {10, "spanId", Type::id},
    {11, "observedTimeUnixNano", Type::fixed64},
    {12, "eventName", Type::text},
};
constexpr Form kScopeLogs = {one(1, "scope", kScope), many(2, "logRecords", kLogRecord), kSchemaUrl};
constexpr Form kResourceLogs = {one(1, "resource", kResource), many(2, "scopeLogs", kScopeLogs), kSchemaUrl};
constexpr Form kLogs = {many(1, "resourceLogs", kResourceLogs)};

constexpr Form kExemplar = {
    {2, "timeUnixNano", Type::fixed64}, {3, "asDouble", Type::real}, {4, "spanId", Type::id}, {5, "traceId", Type::id}};
constexpr Form kNumberPoint = {{2, "startTimeUnixNano", Type::fixed64},
                               {3, "timeUnixNano", Type::fixed64},
                               {4, "asDouble", Type::real},
                               {6, "asInt", Type::sfixed64},
                               many(7, "attributes", kKeyValue)};
constexpr Form kHistogramPoint = {
    {2, "startTimeUnixNano", Type::fixed64},
    {3, "timeUnixNano", Type::fixed64},
    {4, "count", Type::fixed64},
    {5, "sum", Type::real},
    {6, "bucketCounts", Type::fixed64, nullptr, true},
    {7, "explicitBounds", Type::real, nullptr, true},
    many(8, "exemplars", kExemplar),
    many(9, "attributes", kKeyValue),
};
constexpr Form kGauge = {many(1, "dataPoints", kNumberPoint)};
constexpr Form kSum = {
    many(1, "dataPoints", kNumberPoint), {2, "aggregationTemporality", Type::int32}, {3, "isMonotonic", Type::boolean}};
constexpr Form kHistogram = {many(1, "dataPoints", kHistogramPoint), {2, "aggregationTemporality", Type::int32}};
constexpr Form kMetric = {
    {1, "name", Type::text}, {2, "description", Type::text},  {3, "unit", Type::text}, one(5, "gauge", kGauge),
    one(7, "sum", kSum),     one(9, "histogram", kHistogram),
};
constexpr Form kScopeMetrics = {one(1, "scope", kScope), many(2, "metrics", kMetric), kSchemaUrl};
constexpr Form kResourceMetrics = {one(1, "resource", kResource), many(2, "scopeMetrics", kScopeMetrics), kSchemaUrl};
constexpr Form kMetrics = {many(1, "resourceMetrics", kResourceMetrics)};

}  // namespace otlp

namespace {

using otlp::Field;
using otlp::Form;
using otlp::Type;
using Wire = ProtobufType;

struct MalformedMessage : std::exception {};

Wire wire_of(Type type) {
  switch (type) {
    case Type::fixed32:
      return Wire::fixed32;
    case Type::fixed64:
    case Type::sfixed64:
    case Type::real:
      return Wire::fixed64;
    case Type::text:
    case Type::bytes:
    case Type::id:
    case Type::message:
      return Wire::delimited;
    default:
      return Wire::varint;
  }
}

class JsonTranscoder {
 public:
  void write(const Form& form, std::string_view message, unsigned depth = 0);
  [[nodiscard]] std::string_view text() const { return json_.text(); }

 private:
  static constexpr unsigned kMostNested = 100;  // as in protobuf's own decoders

  void write_values(const Field& field, const ProtobufFields& from, unsigned depth);
  void write_number(Type type, std::uint64_t number);

  JsonWriter json_;
};

void JsonTranscoder::write_number(Type type, std::uint64_t value) {
  std::array<char, 32> digits;
  const auto written = [&](auto number) {
    return std::string_view(
        digits.data(), static_cast<std::size_t>(
                           std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr - digits.data()));
  };
  switch (type) {
    case Type::boolean:
      return json_.literal(value != 0 ? "true" : "false");
    case Type::int32:
      return json_.number(std::int64_t{static_cast<std::int32_t>(value)});
    case Type::uint32:
    case Type::fixed32:
      return json_.number(std::uint64_t{static_cast<std::uint32_t>(value)});
    case Type::int64:
    case Type::sfixed64:
      return json_.text(written(static_cast<std::int64_t>(value)));
    case Type::real: {
      double real;
      std::memcpy(&real, &value, sizeof(real));
      if (std::isnan(real)) return json_.text("NaN");
      if (std::isinf(real)) return json_.text(real > 0 ? "Infinity" : "-Infinity");
      return json_.literal(written(real));
    }
    default:
      return json_.text(written(value));
  }
}

// Writes the value that was read, or the numbers of a packed field.
void JsonTranscoder::write_values(const Field& field, const ProtobufFields& from, unsigned depth) {
  const bool is_packed = field.is_repeated && wire_of(field.type) == Wire::fixed64;
  if (from.type() != (is_packed ? Wire::delimited : wire_of(field.type))) throw MalformedMessage();
  std::string_view bytes = from.bytes();
  if (is_packed) {
    std::uint64_t word = 0;
    if (bytes.size() % sizeof(word) != 0) throw MalformedMessage();
    for (; !bytes.empty(); bytes.remove_prefix(sizeof(word))) {
      std::memcpy(&word, bytes.data(), sizeof(word));
      write_number(field.type, word);
    }
    return;
  }
  switch (field.type) {
    case Type::message:
      return write(*field.form, bytes, depth + 1);
    case Type::text:
      if (!is_utf8(bytes)) throw MalformedMessage();
      return json_.text(bytes);
    case Type::id:
      return json_.hex(bytes);
    case Type::bytes:
      return json_.text(base64_of(bytes));
    default:
      return write_number(field.type, from.integer());
  }
}

// The values of a repeated field may be apart from each other in protobuf, but are together in JSON.
void JsonTranscoder::write(const Form& form, std::string_view message, unsigned depth) {
  if (depth >= kMostNested) throw MalformedMessage();
  std::uint32_t written = 0;  // a bit for each field
  if (&form == &otlp::kAnyValue) {
    // Its fields are a oneof, of which the last one counts. Spools of nopspan 0.2 may have more than one.
    for (ProtobufFields fields(message); fields.next();) {
      if (fields.number() < 32) written = ~(std::uint32_t{1} << fields.number());
    }
  }
  json_.begin_object();
  ProtobufFields fields(message);
  while (fields.next()) {
    const auto* const field =
        std::find_if(form.begin(), form.end(), [&](const Field& known) { return known.number == fields.number(); });
    if (field == form.end() || (written >> field->number & 1U) != 0) continue;
    written |= std::uint32_t{1} << field->number;
    json_.key_text(field->name);
    if (!field->is_repeated) {
      write_values(*field, fields, depth);
      continue;
    }
    json_.begin_array();
    ProtobufFields same = fields;
    do {
      if (same.number() == field->number) write_values(*field, same, depth);
    } while (same.next());
    json_.end_array();
  }
  if (!fields.is_valid()) throw MalformedMessage();
  json_.end_object();
}

}  // namespace

std::optional<std::string> otlp_json(const ExportBody& body) {
  constexpr const Form* kForms[kSignals] = {&otlp::kTraces, &otlp::kLogs, &otlp::kMetrics};
  JsonTranscoder transcoder;
  try {
    transcoder.write(*kForms[static_cast<std::size_t>(body.signal)], body.bytes);
  } catch (const MalformedMessage&) {
    return std::nullopt;
  }
  return std::string(transcoder.text());
}

}  // namespace nopspan::collector
