// SPDX-License-Identifier: Apache-2.0
// Calls of the setters of Fields, and the attributes that leave the process as a result. The first byte of an input
// selects the handlers. After it comes a letter for each setter (upper case for content), followed by the setter's
// arguments.
#include "attributes_model.h"
#include "plain_span.h"
#include "protobuf_reader.h"
#include "require.h"
#include "utf8_model.h"

#include "genai/span_attributes.h"
#include "state/intern.h"

#include <nopspan/event.h>
#include <nopspan/fields.h>
#include <nopspan/stats.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

using nopspan::Fields;
using nopspan::Value;
using nopspan::detail::ContextAccess;
using nopspan::detail::kMaxAttributesBytes;

// The prefix of every text that is content. No other text contains its first character.
constexpr std::string_view kCanary = "~this is content";

// The bytes of an input, followed by zeros.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : left_(reinterpret_cast<const char*>(data), size) {}
  [[nodiscard]] bool done() const { return left_.empty(); }
  [[nodiscard]] std::size_t left() const { return left_.size(); }
  unsigned byte() {
    const std::string_view one = take(1);
    return one.empty() ? 0 : static_cast<unsigned char>(one[0]);
  }
  // A number of any length that a varint can have.
  std::uint64_t word() {
    std::uint64_t value = 0;
    for (unsigned i = byte() % 9; i > 0; --i) value = value << 8U | byte();
    return value;
  }
  double real() {
    constexpr std::array<double, 4> kSpecial = {std::numeric_limits<double>::quiet_NaN(),
                                                -std::numeric_limits<double>::infinity(), -0.0, 0.5};
    const unsigned which = byte();
    if (which % 8 < kSpecial.size()) return kSpecial[which % 8];
    std::uint64_t bits = 0;
    for (int i = 0; i < 8; ++i) bits = bits << 8U | byte();
    double value = 0;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  std::string text(bool content) {
    const unsigned size = (byte() - unsigned{' '}) & 0xffU;  // so that seeds can be typed
    std::string text;
    if (size < 0xe0) {
      text = take(size);
    } else {  // long, by repetition
      const std::string_view pattern = take(1 + size % 4);
      std::size_t times = size == 0xff ? 16384 : 64 * (size - 0xdfU);
      for (times = std::min(times, repeats_); times > 0; --times, --repeats_) text += pattern;
    }
    std::replace(text.begin(), text.end(), kCanary[0], '!');
    return content ? std::string(kCanary) + text : text;
  }
  std::string key() {
    constexpr std::array<std::string_view, 16> kKnown = {
        "",         "model",          "engine",       "tenant",        "reason",           "tool_name",
        "attempt",  "delay_ms",       "input_tokens", "output_tokens", "reasoning_tokens", "queue_ns",
        "duration", "monotonic_time", "system_time",  "request_id"};
    const unsigned which = byte() - unsigned{' '};
    if (which < kKnown.size()) return std::string(kKnown[which]);
    if (which == 'x' - ' ') return text(false);
    if (which == 'y' - ' ') return std::string(248 + byte() % 16, 'k');
    return "k" + std::to_string(which);
  }
  Value value(bool content, unsigned depth = 0) {
    if (depth > 80) return {};
    switch (byte() % 8) {
      case 0:
        return nullptr;
      case 1:
        return byte() % 2 == 1;
      case 2:
        return word();
      case 3:
        return real();
      case 4:
        return text(content);
      case 5: {
        Value::List list(byte() % 8);
        for (Value& item : list) item = value(content, depth + 1);
        return list;
      }
      case 6: {
        Value::Map map(byte() % 8);
        for (auto& [key, item] : map) {
          key = text(content);
          item = value(content, depth + 1);
        }
        return map;
      }
      default: {
        Value deep = value(content, depth + 1);
        for (unsigned i = byte() % 70; i > 0 && levels_ > 0; --i, --levels_) {
          if (i % 2 == 0) {
            Value::List list(1);
            list[0] = std::move(deep);
            deep = std::move(list);
          } else {
            Value::Map map(1);
            map[0].second = std::move(deep);
            deep = std::move(map);
          }
        }
        return deep;
      }
    }
  }

 private:
  std::string_view take(std::size_t size) {
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(taken.size());
    return taken;
  }

  std::string_view left_;
  // Small, for speed: a span's limit is 16 MiB.
  std::size_t repeats_ = 32768;
  unsigned levels_ = 200;
};

// Calls one setter on both the fields and the model.
void set_one(Input& input, Fields& fields, AttributesModel& model) {
  static const std::string huge((16U << 20U) + 1, 'x');
  const unsigned operation = input.byte();
  const bool content = (operation & 0x20U) == 0;
  const std::string key = input.key();
  const auto set = [&](const auto& given, const Value& expected) {
    if (content) {
      fields.content(key, given);
    } else {
      fields.set(key, given);
    }
    model.set({key, expected, false, content});
  };
  const auto measure = [&](auto given) {
    fields.measure(key, given);
    model.set({key, given, true, false});
  };
  switch (operation & 0x0fU) {
    case 'b' & 0x0fU: {
      const bool truth = input.byte() % 2 == 1;
      set(truth, truth);
      break;
    }
    case 'd' & 0x0fU: {
      const double real = input.real();
      set(real, real);
      break;
    }
    case 'h' & 0x0fU:
      if (content) {
        fields.content(key, huge);
      } else {
        fields.set(key, huge);
      }
      model.refuse({key, nullptr, false, content});
      break;
    case 'i' & 0x0fU: {
      const auto integer = static_cast<std::int64_t>(input.word());
      set(integer, integer);
      break;
    }
    case 'j' & 0x0fU: {
      const Value value = input.value(content);
      set(value, value);
      break;
    }
    case 'k' & 0x0fU:
      measure(static_cast<std::int64_t>(input.word()));
      break;
    case 'l' & 0x0fU:
      measure(input.word());
      break;
    case 'm' & 0x0fU:
      measure(input.real());
      break;
    case 'n' & 0x0fU:
      set(nullptr, nullptr);
      break;
    case 'o' & 0x0fU:
      set(static_cast<const char*>(nullptr), nullptr);
      break;
    case 'u' & 0x0fU: {
      const std::uint64_t integer = input.word();
      set(integer, integer);
      break;
    }
    default: {
      const std::string text = input.text(content);
      set(text, text);
    }
  }
}

bool same(const Value& a, const Value& b) {
  if (a.type() != b.type() || a.as_list().size() != b.as_list().size() || a.as_map().size() != b.as_map().size()) {
    return false;
  }
  const auto bits = [](double real) {
    std::uint64_t word = 0;
    std::memcpy(&word, &real, sizeof(word));
    return word;
  };
  if (a.type() == Value::Type::real) return bits(a.as_double()) == bits(b.as_double());  // a NaN equals itself here
  const auto same_entry = [](const auto& p, const auto& q) { return p.first == q.first && same(p.second, q.second); };
  return a.as_bool() == b.as_bool() && a.as_int() == b.as_int() && a.as_string() == b.as_string() &&
         std::equal(a.as_list().begin(), a.as_list().end(), b.as_list().begin(), same) &&
         std::equal(a.as_map().begin(), a.as_map().end(), b.as_map().begin(), same_entry);
}

void check_attributes(const PlainSpan& span, const AttributesModel& model, bool with_content) {
  std::vector<unsigned char> bytes(kMaxAttributesBytes);
  const nopspan::Stats before = nopspan::stats();
  const auto encoded = nopspan::detail::encode_attributes(span, true, with_content, bytes.data());
  const nopspan::Stats after = nopspan::stats();
  require(encoded.size <= kMaxAttributesBytes, "attributes are at most 8192 bytes");
  const std::string_view written(reinterpret_cast<const char*>(bytes.data()), encoded.size);
  require(with_content || written.find(kCanary) == std::string_view::npos, "no content leaves without the switch");

  const AttributesModel::Attributes expected = model.attributes(with_content);
  namespace wire = nopspan::detail::wire;
  const unsigned field = span.is_span ? wire::kSpanAttributes : wire::kEventAttributes;
  ProtobufReader reader(written);
  for (const auto& [key, value] : expected.all) {
    require(!reader.done(), "no attribute is missing");
    const auto attribute = reader.key_value(field);
    require(attribute.first == key && same(attribute.second, value), "each key has the value that was set last");
  }
  require(reader.done(), "there is no other attribute");
  require(encoded.dropped == expected.dropped, "an attribute is dropped if it does not fit, and only then");
  require(after.attributes_dropped - before.attributes_dropped == expected.dropped, "dropped attributes are counted");
  require(after.invalid_utf8 - before.invalid_utf8 == expected.repaired, "repaired strings are counted");
}

void check_label(std::string_view label, bool capturing) {
  require(is_printable_name(label), "a label can be printed");
  require(capturing || label.find(kCanary[0]) == std::string_view::npos, "content is no label");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const unsigned listening = input.byte();
  const bool capturing = (listening & 1U) != 0;
  nopspan::capture_content(capturing);
  PlainSpan sink;
  sink.is_span = (listening & 2U) == 0;
  sink.keeps_content = capturing || (listening & 4U) == 0;

  AttributesModel model(sink.is_span, sink.keeps_content);
  Fields fields(&sink);
  const std::uint64_t dropped_before = nopspan::stats().fields_dropped;
  for (const unsigned erase_every = 8 * input.byte(); !input.done();) {
    set_one(input, fields, model);
    if (erase_every != 0 && input.left() % erase_every == 0) {
      sink.fields.erase_measurements();
      model.erase_measurements();
    }
  }
  require(nopspan::stats().fields_dropped - dropped_before == model.dropped(), "fields that are left out are counted");

  // No setter has used this key.
  sink.fields.reserve(1024);
  sink.fields.add_string(kCanary, kCanary);
  check_attributes(sink, model, false);
  check_attributes(sink, model, true);
  for (const auto which : {ContextAccess::engine, ContextAccess::model, ContextAccess::tenant}) {
    const auto label = nopspan::detail::label(sink.context.labels[which]);
    check_label({label.text, label.size}, capturing);
  }
  check_label(sink.tool_name, capturing);
  check_label(sink.retry_reason, capturing);
  return 0;
}
