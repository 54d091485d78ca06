// SPDX-License-Identifier: Apache-2.0
// Protobuf needs the size of a message before its bytes. So each value is walked twice: once for its size, and once to
// write it.
#include "genai/attributes.h"

#include "base/clean_text.h"

#include <cstring>

namespace nopspan::detail {
namespace {

using namespace wire;

std::size_t delimited_size(std::size_t size) { return 1 + varint_size(size) + size; }

// Writes protobuf. The caller has checked that there is room.
class Writer {
 public:
  explicit Writer(unsigned char* out) : at_(out) {}
  void varint(std::uint64_t value) { at_ = write_varint(at_, value); }
  void tag(unsigned field, unsigned type) { *at_++ = wire::tag(field, type); }
  void begin(unsigned field, std::size_t size) {
    tag(field, kDelimited);
    varint(size);
  }
  void string(unsigned field, std::string_view text) {
    begin(field, text.size());
    if (is_utf8(text)) {
      std::memcpy(at_, text.data(), text.size());
      at_ += text.size();
      return;
    }
    count(counters.invalid_utf8);
    for (std::size_t i = 0; i < text.size();) {  // keeps the length, which was written already
      const std::size_t length = utf8_sequence(text, i);
      if (length == 0) {
        *at_++ = '?';
        ++i;
      } else {
        std::memcpy(at_, text.data() + i, length);
        at_ += length;
        i += length;
      }
    }
  }
  void word(std::uint64_t value) {
    std::memcpy(at_, &value, sizeof(value));
    at_ += sizeof(value);
  }
  [[nodiscard]] unsigned char* at() const { return at_; }

 private:
  unsigned char* at_;
};

std::size_t key_value_size(const FieldEntry& entry);

bool has_items(const FieldEntry& entry) { return entry.type == Value::Type::list || entry.type == Value::Type::map; }

// The size of an AnyValue that is null, a number or a flag.
std::size_t word_size(Value::Type type, std::uint64_t word) {
  return type == Value::Type::null ? 0 : type == Value::Type::real ? 9 : 1 + varint_size(word);
}

void write_word(Writer& out, Value::Type type, std::uint64_t word) {
  if (type == Value::Type::null) return;
  if (type == Value::Type::real) {
    out.tag(kDouble, kFixed64);
    out.word(word);
    return;
  }
  out.tag(type == Value::Type::boolean ? kBool : kInt, kVarint);
  out.varint(word);
}

std::size_t value_size(const FieldEntry& entry);

// The size of the items of a list or map.
std::size_t items_size(const FieldEntry& entry) {
  std::size_t size = 0;
  for (const unsigned char* at = entry.payload(); at < entry.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry& item = *FieldEntry::at(at);
    size += delimited_size(entry.type == Value::Type::list ? value_size(item) : key_value_size(item));
  }
  return size;
}

// The size of an AnyValue.
std::size_t value_size(const FieldEntry& entry) {
  if (has_items(entry)) return delimited_size(items_size(entry));
  if (entry.type == Value::Type::string) return delimited_size(entry.as_string().size());
  return word_size(entry.type, Node(&entry).word());
}

std::size_t key_value_size(const FieldEntry& entry) {
  return delimited_size(entry.key_size) + delimited_size(value_size(entry));
}

void write_key_value(Writer& out, const FieldEntry& entry);

void write_value(Writer& out, const FieldEntry& entry) {
  if (entry.type == Value::Type::string) return out.string(kString, entry.as_string());
  if (!has_items(entry)) return write_word(out, entry.type, Node(&entry).word());
  const bool list = entry.type == Value::Type::list;
  out.begin(list ? kArray : kKeyValueList, items_size(entry));
  for (const unsigned char* at = entry.payload(); at < entry.end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry& item = *FieldEntry::at(at);
    out.begin(kValues, list ? value_size(item) : key_value_size(item));
    if (list) {
      write_value(out, item);
    } else {
      write_key_value(out, item);
    }
  }
}

void write_key_value(Writer& out, const FieldEntry& entry) {
  out.string(kKey, entry.key());
  out.begin(kKeyValueValue, value_size(entry));
  write_value(out, entry);
}

}  // namespace

const unsigned char* AttributeEncoder::wire_entries(const unsigned char* at, const unsigned char* end) noexcept {
  unsigned char* to = out_ + encoded_.size;
  const unsigned char* const limit = out_ + kMaxAttributesBytes - FieldEntry::kMostWire - FieldEntry::kBehindWire;
  for (; at < end && FieldEntry::at(at)->is_wire() && to <= limit; at = FieldEntry::at(at)->end()) {
    const FieldEntry& entry = *FieldEntry::at(at);
    const std::size_t size = entry.wire_size();
    std::size_t copied = 0;
    do {
      std::memcpy(to + copied, entry.wire() + copied, FieldEntry::kBehindWire);
      copied += FieldEntry::kBehindWire;
    } while (copied < size);
    to[0] = tag(field_, kDelimited);
    to += size;
  }
  encoded_.size = static_cast<std::size_t>(to - out_);
  return at;
}

template <class Write>
void AttributeEncoder::write(std::string_view key, std::size_t value_bytes, const Write& write_value) noexcept {
  const std::size_t size = delimited_size(key.size()) + delimited_size(value_bytes);
  if (encoded_.size + delimited_size(size) > kMaxAttributesBytes) {
    ++encoded_.dropped;
    return;
  }
  Writer writer(out_ + encoded_.size);
  writer.begin(field_, size);
  writer.string(kKey, key);
  writer.begin(kKeyValueValue, value_bytes);
  write_value(writer);
  encoded_.size = static_cast<std::size_t>(writer.at() - out_);
}

void AttributeEncoder::text(std::string_view key, std::string_view value) noexcept {
  write(key, delimited_size(value.size()), [&](Writer& out) { out.string(kString, value); });
}

void AttributeEncoder::texts(std::string_view key, const std::string_view* values, std::size_t count) noexcept {
  std::size_t size = 0;
  for (std::size_t i = 0; i < count; ++i) size += delimited_size(delimited_size(values[i].size()));
  write(key, delimited_size(size), [&](Writer& out) {
    out.begin(kArray, size);
    for (std::size_t i = 0; i < count; ++i) {
      out.begin(kValues, delimited_size(values[i].size()));
      out.string(kString, values[i]);
    }
  });
}

void AttributeEncoder::entry(std::string_view key, const FieldEntry& value) noexcept {
  if ((value.flags & FieldEntry::kContent) != 0 && !with_content_) return;
  write(key, value_size(value), [&](Writer& out) { write_value(out, value); });
}

void AttributeEncoder::node(std::string_view key, const Node& value) noexcept {
  const Value::Type type = value.type();
  if (value.entry() != nullptr) {
    entry(key, *value.entry());
  } else if (type == Value::Type::string) {
    text(key, value.as_string());
  } else if (type == Value::Type::list || type == Value::Type::map) {
    FieldBuffer flat;
    if (flat.put_value(key, *value.value(), 0)) {
      entry(key, *FieldEntry::at(flat.begin()));
    } else {
      ++encoded_.dropped;
    }
  } else {
    const std::uint64_t word = value.word();
    write(key, word_size(type, word), [&](Writer& out) { write_word(out, type, word); });
  }
}

}  // namespace nopspan::detail
