// SPDX-License-Identifier: Apache-2.0
// Reads KeyValue and AnyValue of opentelemetry.proto.common.v1 according to the wire format. Shares no code with the
// library's encoder. Refuses bytes that no encoder should write: unknown fields, varints longer than necessary, and
// invalid UTF-8.
#pragma once

#include "require.h"
#include "utf8_model.h"

#include <nopspan/event.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>

class ProtobufReader {
 public:
  using KeyValue = std::pair<std::string, nopspan::Value>;

  explicit ProtobufReader(std::string_view bytes) : left_(bytes) {}
  [[nodiscard]] bool done() const { return left_.empty(); }

  // Reads the next field, which must be a KeyValue with this number.
  KeyValue key_value(unsigned field) {
    ProtobufReader reader(block(field));
    std::string key = reader.string(1);
    nopspan::Value value = ProtobufReader(reader.block(2)).any_value();
    require(reader.done(), "nothing is behind a KeyValue");
    return {std::move(key), std::move(value)};
  }

 private:
  // The remaining bytes.
  nopspan::Value any_value() {
    if (done()) return {};
    nopspan::Value value;
    switch (left_[0]) {
      case 0x0a:
        value = string(1);
        break;
      case 0x10: {
        const std::uint64_t truth = tagged_varint();
        require(truth <= 1, "a bool is 0 or 1");
        value = truth == 1;
        break;
      }
      case 0x18:
        value = static_cast<std::int64_t>(tagged_varint());
        break;
      case 0x21: {
        double real = 0;
        take(1);
        std::memcpy(&real, take(sizeof(real)).data(), sizeof(real));
        value = real;
        break;
      }
      case 0x2a: {
        nopspan::Value::List list;
        for (ProtobufReader items(block(5)); !items.done();) list.push_back(ProtobufReader(items.block(1)).any_value());
        value = std::move(list);
        break;
      }
      case 0x32: {
        nopspan::Value::Map map;
        for (ProtobufReader items(block(6)); !items.done();) map.push_back(items.key_value(1));
        value = std::move(map);
        break;
      }
      default:
        require(false, "an AnyValue has one of its fields");
    }
    require(done(), "nothing is behind an AnyValue");
    return value;
  }

  std::string_view take(std::size_t size) {
    require(size <= left_.size(), "no bytes are missing");
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (unsigned i = 0;; ++i) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      require(i < 9 || byte <= 1, "a varint has 64 bits");
      value |= std::uint64_t{byte & 0x7fU} << (7 * i);
      if (byte < 0x80) {
        require(byte != 0 || i == 0, "a varint is as short as it can be");
        return value;
      }
    }
  }
  std::uint64_t tagged_varint() {
    take(1);
    return varint();
  }
  std::string_view block(unsigned field) {
    require(varint() == (field << 3U | 2U), "this field is here");
    return take(varint());
  }
  std::string string(unsigned field) {
    const std::string_view text = block(field);
    require(is_utf8_text(text), "a string is UTF-8");
    return std::string(text);
  }

  std::string_view left_;
};
