// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_json.h"

#include "base/json_writer.h"
#include "base/protobuf.h"
#include "base/utf8.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <initializer_list>
#include <vector>

namespace nopspan::collector {
// The messages and fields of OTLP 1.11 (opentelemetry-proto), with their names in JSON. The two fields that only
// profiles use (key_strindex, string_value_strindex) are left out.
namespace otlp {

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

}  // namespace otlp

namespace {

using otlp::Field;
using otlp::Form;
using otlp::Label;
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

std::string base64_of(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (; !bytes.empty(); bytes.remove_prefix(std::min<std::size_t>(bytes.size(), 3))) {
    std::uint32_t group = 0;
    for (std::size_t i = 0; i < 3; ++i) {
      group = group << 8U | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0U);
    }
    for (std::size_t i = 0; i < 4; ++i) text += i <= bytes.size() ? kDigits[group >> (18 - 6 * i) & 63U] : '=';
  }
  return text;
}

// Protobuf allows the fields of a message in any order, and fields of the same number apart from each other. JSON needs
// the values of a repeated field together, so the fields of a message are collected before they are written.
class JsonTranscoder {
 public:
  void write(const Form& form, std::string_view message, unsigned depth = 0);
  [[nodiscard]] std::string_view text() const { return json_.text(); }

 private:
  static constexpr unsigned kMostNested = 100;  // as in protobuf's own decoders
  struct Found {
    const Field* field;           // null if it is written already, or if another member of the oneof follows
    std::uint64_t number = 0;     // unless it is delimited
    std::string_view bytes = {};  // if it is
  };

  void collect(const Form& form, std::string_view message);
  void collect_packed(const Field& field, std::string_view numbers);
  void write_field(std::size_t at, unsigned depth);
  void write_value(const Found& value, unsigned depth);
  void write_number(const Found& value);

  JsonWriter json_;
  std::vector<Found> found_;  // a stack: the fields of a message follow those of the message that it is in
};

const Field* field_of(const Form& form, std::uint64_t number) {
  for (const Field& field : form) {
    if (field.number == number) return &field;
  }
  return nullptr;
}

void JsonTranscoder::collect_packed(const Field& field, std::string_view numbers) {
  if (wire_of(field.type) == Wire::varint) {
    while (!numbers.empty()) {
      if (!take_varint(numbers, found_.emplace_back(Found{&field}).number)) throw MalformedMessage();
    }
    return;
  }
  if (numbers.size() % sizeof(std::uint64_t) != 0) throw MalformedMessage();
  for (; !numbers.empty(); numbers.remove_prefix(sizeof(std::uint64_t))) {
    found_.push_back({&field});
    std::memcpy(&found_.back().number, numbers.data(), sizeof(std::uint64_t));
  }
}

void JsonTranscoder::collect(const Form& form, std::string_view message) {
  std::size_t oneof = found_.size();  // the first field that may be of the oneof's member that was seen last
  const Field* member = nullptr;
  ProtobufFields fields(message);
  while (fields.next()) {
    const Field* const field = field_of(form, fields.number());
    if (field == nullptr) continue;
    if (fields.type() != wire_of(field->type)) {
      if (field->label == Label::repeated && fields.type() == Wire::delimited) collect_packed(*field, fields.bytes());
      continue;
    }
    if (field->label == Label::oneof && field != member) {
      for (; oneof < found_.size(); ++oneof) {
        if (found_[oneof].field == member) found_[oneof].field = nullptr;
      }
      member = field;
    }
    if (field->type == Type::text && !is_utf8(fields.bytes())) throw MalformedMessage();
    found_.push_back({field, fields.integer(), fields.bytes()});
  }
  if (!fields.is_valid()) throw MalformedMessage();
}

void JsonTranscoder::write_number(const Found& value) {
  std::array<char, 32> digits;
  const auto written = [&](auto number) {
    return std::string_view(
        digits.data(), static_cast<std::size_t>(
                           std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr - digits.data()));
  };
  switch (value.field->type) {
    case Type::boolean:
      return json_.literal(value.number != 0 ? "true" : "false");
    case Type::int32:
      return json_.number(std::int64_t{static_cast<std::int32_t>(value.number)});
    case Type::uint32:
    case Type::fixed32:
      return json_.number(std::uint64_t{static_cast<std::uint32_t>(value.number)});
    case Type::sint32: {  // 0, -1, 1, -2, … have the codes 0, 1, 2, 3, …
      const auto code = static_cast<std::uint32_t>(value.number);
      return json_.number(std::int64_t{static_cast<std::int32_t>(code >> 1U ^ (0U - (code & 1U)))});
    }
    case Type::int64:
    case Type::sfixed64:
      return json_.text(written(static_cast<std::int64_t>(value.number)));
    case Type::real: {
      double real;
      std::memcpy(&real, &value.number, sizeof(real));
      if (std::isnan(real)) return json_.text("NaN");
      if (std::isinf(real)) return json_.text(real > 0 ? "Infinity" : "-Infinity");
      return json_.literal(written(real));
    }
    default:
      return json_.text(written(value.number));
  }
}

void JsonTranscoder::write_value(const Found& value, unsigned depth) {
  switch (value.field->type) {
    case Type::message:
      return write(*value.field->form, value.bytes, depth + 1);
    case Type::text:
      return json_.text(value.bytes);
    case Type::id:
      return json_.hex(value.bytes);
    case Type::bytes:
      return json_.text(base64_of(value.bytes));
    default:
      return write_number(value);
  }
}

// Writes the field at this place of the stack, with all others of the same number.
void JsonTranscoder::write_field(std::size_t at, unsigned depth) {
  const std::size_t end = found_.size();
  const Field& field = *found_[at].field;
  json_.key_text(field.name);
  if (field.label == Label::repeated) {
    json_.begin_array();
    for (std::size_t i = at; i < end; ++i) {
      const Found value = found_[i];
      if (value.field != &field) continue;
      found_[i].field = nullptr;
      write_value(value, depth);
    }
    json_.end_array();
    return;
  }
  // The last value counts. Messages are merged, which is the same as decoding all their bytes as one message.
  Found last = found_[at];
  std::string merged;
  for (std::size_t i = at + 1; i < end; ++i) {
    if (found_[i].field != &field) continue;
    if (field.type == Type::message) {
      if (merged.empty()) merged = last.bytes;
      merged += found_[i].bytes;
    }
    last = found_[i];
    found_[i].field = nullptr;
  }
  if (!merged.empty()) last.bytes = merged;
  write_value(last, depth);
}

void JsonTranscoder::write(const Form& form, std::string_view message, unsigned depth) {
  if (depth >= kMostNested) throw MalformedMessage();
  const std::size_t begin = found_.size();
  collect(form, message);
  const std::size_t end = found_.size();
  json_.begin_object();
  for (std::size_t i = begin; i < end; ++i) {
    if (found_[i].field != nullptr) write_field(i, depth);
  }
  json_.end_object();
  found_.resize(begin);
}

}  // namespace

std::optional<std::string> otlp_json(Signal signal, std::string_view request) {
  constexpr const Form* kForms[kSignals] = {&otlp::kTraces, &otlp::kLogs, &otlp::kMetrics};
  JsonTranscoder transcoder;
  try {
    transcoder.write(*kForms[static_cast<std::size_t>(signal)], request);
  } catch (const MalformedMessage&) {
    return std::nullopt;
  }
  return std::string(transcoder.text());
}

}  // namespace nopspan::collector
