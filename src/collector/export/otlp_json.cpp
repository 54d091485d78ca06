// SPDX-License-Identifier: Apache-2.0
#include "export/otlp_json.h"

#include "base/json_writer.h"
#include "base/protobuf.h"
#include "base/utf8.h"
#include "export/otlp_messages.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <vector>

namespace nopspan::collector {
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
