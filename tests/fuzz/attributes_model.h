// SPDX-License-Identifier: Apache-2.0
// The attributes that a span's fields must result in, computed with a plain list.
#pragma once

#include "utf8_model.h"

#include <nopspan/event.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

class AttributesModel {
 public:
  using KeyValue = std::pair<std::string, nopspan::Value>;
  struct Field {
    std::string key;
    nopspan::Value value;
    bool measurement = false;
    bool content = false;
  };
  struct Attributes {
    std::vector<KeyValue> all;
    std::uint64_t dropped = 0;   // attributes that did not fit
    std::uint64_t repaired = 0;  // strings and keys that were not UTF-8
  };

  AttributesModel(bool is_span, bool keeps_content) : is_span_(is_span), keeps_content_(keeps_content) {}

  void set(Field field) {
    if (!is_kept(field)) return;
    if (field.key.size() > 255 || !fits(field.value, 0)) {
      ++dropped_;
      return;
    }
    const auto same = [&](const Field& there) {
      return there.key == field.key && there.measurement == field.measurement;
    };
    const auto there = std::find_if(fields_.begin(), fields_.end(), same);
    if (there != fields_.end()) {
      *there = std::move(field);
    } else if (fields_.size() == 128) {
      ++dropped_;
    } else {
      fields_.push_back(std::move(field));
    }
  }
  // A field that is larger than a span's limit.
  void refuse(const Field& field) {
    if (is_kept(field)) ++dropped_;
  }
  void erase_measurements() {
    const auto is_measurement = [](const Field& field) { return field.measurement; };
    fields_.erase(std::remove_if(fields_.begin(), fields_.end(), is_measurement), fields_.end());
  }

  [[nodiscard]] std::uint64_t dropped() const { return dropped_; }

  [[nodiscard]] Attributes attributes(bool with_content) const {
    Attributes attributes;
    std::size_t size = 0;
    for (const Field& field : fields_) {
      if ((field.content && !with_content) || is_second(field)) continue;
      const std::size_t needed = block_size(key_value_size(field.key, field.value));
      if (size + needed > 8192) {
        ++attributes.dropped;
        continue;
      }
      size += needed;
      std::string key = text(field.key, attributes.repaired);
      attributes.all.emplace_back(std::move(key), exported(field.value, attributes.repaired));
    }
    return attributes;
  }

 private:
  using Value = nopspan::Value;

  // Metadata with the key of a measurement becomes the attribute instead of it.
  [[nodiscard]] bool is_second(const Field& field) const {
    const auto replaces = [&](const Field& there) { return there.key == field.key && !there.measurement; };
    return field.measurement && std::any_of(fields_.begin(), fields_.end(), replaces);
  }
  // Whether a field is kept. Content that is not captured still removes the field that it would replace.
  bool is_kept(const Field& field) {
    const bool own = field.key == "duration" || field.key == "monotonic_time" || field.key == "system_time";
    if (field.key.empty() || (field.measurement && is_span_ && own)) {
      ++dropped_;
      return false;
    }
    if (!field.content || keeps_content_) return true;
    const auto replaced = [&](const Field& there) { return there.key == field.key && !there.measurement; };
    fields_.erase(std::remove_if(fields_.begin(), fields_.end(), replaced), fields_.end());
    return false;
  }
  static bool fits(const Value& value, unsigned depth) {
    if (depth > 64) return false;
    const auto item_fits = [&](const Value& item) { return fits(item, depth + 1); };
    const auto entry_fits = [&](const auto& entry) { return entry.first.size() <= 255 && item_fits(entry.second); };
    return std::all_of(value.as_list().begin(), value.as_list().end(), item_fits) &&
           std::all_of(value.as_map().begin(), value.as_map().end(), entry_fits);
  }

  // The size of a protobuf field with a number under 16 and `size` bytes.
  static std::size_t block_size(std::size_t size) { return 1 + varint_size(size) + size; }
  static std::size_t varint_size(std::uint64_t value) { return value < 128 ? 1 : 1 + varint_size(value / 128); }
  static std::size_t key_value_size(const std::string& key, const Value& value) {
    return block_size(key.size()) + block_size(any_value_size(value));
  }
  static std::size_t any_value_size(const Value& value) {
    std::size_t size = 0;
    for (const Value& item : value.as_list()) size += block_size(any_value_size(item));
    for (const auto& [key, item] : value.as_map()) size += block_size(key_value_size(key, item));
    switch (value.type()) {
      case Value::Type::null:
        return 0;
      case Value::Type::boolean:
        return 2;
      case Value::Type::integer:
        return 1 + varint_size(static_cast<std::uint64_t>(value.as_int()));
      case Value::Type::real:
        return 9;
      case Value::Type::string:
        return block_size(value.as_string().size());
      case Value::Type::list:
      case Value::Type::map:
        break;
    }
    return block_size(size);
  }

  static std::string text(std::string_view given, std::uint64_t& count) {
    std::string out = repaired(given);
    if (out != given) ++count;
    return out;
  }
  static Value exported(const Value& value, std::uint64_t& count) {
    if (value.type() == Value::Type::string) return text(value.as_string(), count);
    if (value.type() == Value::Type::list) {
      Value::List list;
      for (const Value& item : value.as_list()) list.push_back(exported(item, count));
      return list;
    }
    if (value.type() == Value::Type::map) {
      Value::Map map;
      for (const auto& [key, item] : value.as_map()) {
        std::string name = text(key, count);
        map.emplace_back(std::move(name), exported(item, count));
      }
      return map;
    }
    return value;
  }

  bool is_span_;
  bool keeps_content_;
  std::vector<Field> fields_;
  std::uint64_t dropped_ = 0;
};
