// SPDX-License-Identifier: Apache-2.0
// Fields as a sequence of entries in one block of memory: no allocation for the usual few, one copy to keep them.
#pragma once

#include "base/copy_bytes.h"
#include "fields/otlp_wire.h"

#include <nopspan/value.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string_view>

namespace nopspan::detail {

// An entry: this header, the key and a NUL padded to 8 bytes, the payload padded to 8 bytes. The payload of a string is
// its length and its bytes with a NUL; of a list or map its entries (a list's have an empty key); of a number 8 bytes.
//
// Most are in wire form (kWire) instead: behind the header are the bytes that the attribute is for probes, a whole
// `repeated KeyValue`, a NUL, and padding. That is metadata and no content, a flag, a number or a text of at most
// kMostWireText bytes under a key of at most kMostWireKey, all of them ASCII, so that every length is one byte.
struct FieldEntry {
  std::uint32_t size;  // of the whole entry, a multiple of 8
  std::uint16_t key_size;
  Value::Type type;
  std::uint8_t flags;

  static constexpr std::uint8_t kMeasurement = 1;
  static constexpr std::uint8_t kContent = 2;
  static constexpr std::uint8_t kOwn = 8;    // nopspan's, and an attribute: has its place whatever the application set
  static constexpr std::uint8_t kAdded = 4;  // by nopspan for handlers: not an attribute
  static constexpr std::uint8_t kProbesOnly = 16;  // an attribute that handlers see in another form
  static constexpr std::uint8_t kWire = 32;        // has no other flag

  static constexpr std::size_t kMostWireKey = 32;
  static constexpr std::size_t kMostWireText = 64;
  // The attribute's tag and length, its key's; its value's, and the tag and length of what that is.
  static constexpr std::size_t kWireKeyAt = 4;
  static constexpr std::size_t kWireValueAt = 2;
  static constexpr std::size_t kMostWire = kWireKeyAt + kMostWireKey + kWireValueAt + 2 + kMostWireText;
  static_assert(kMostWire - 2 < 0x80);
  static constexpr std::size_t kBehindWire = 16;  // that may be read with it, so that it is copied in whole blocks

  [[nodiscard]] bool is_wire() const noexcept { return (flags & kWire) != 0; }
  [[nodiscard]] const unsigned char* wire() const noexcept { return reinterpret_cast<const unsigned char*>(this + 1); }
  [[nodiscard]] std::size_t wire_size() const noexcept { return 2 + std::size_t{wire()[1]}; }
  // The tag of what the value is; the value follows, after its length if it is a string.
  [[nodiscard]] const unsigned char* wire_value() const noexcept {
    return wire() + kWireKeyAt + key_size + kWireValueAt;
  }

  [[nodiscard]] std::string_view key() const noexcept {
    return {reinterpret_cast<const char*>(wire()) + (is_wire() ? kWireKeyAt : 0), key_size};
  }
  // Not of an entry in wire form.
  [[nodiscard]] const unsigned char* payload() const noexcept { return wire() + ((key_size + 8U) & ~7U); }
  [[nodiscard]] const unsigned char* end() const noexcept {
    return reinterpret_cast<const unsigned char*>(this) + size;
  }
  // Of a number or flag.
  [[nodiscard]] std::uint64_t word() const noexcept {
    if (is_wire() && type != Value::Type::real) return wire::read_varint(wire_value() + 1);
    std::uint64_t value;
    std::memcpy(&value, is_wire() ? wire_value() + 1 : payload(), sizeof(value));
    return value;
  }
  [[nodiscard]] std::int64_t as_int() const noexcept { return static_cast<std::int64_t>(word()); }
  [[nodiscard]] double as_double() const noexcept {
    const std::uint64_t bits = word();
    double value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
  [[nodiscard]] std::string_view as_string() const noexcept {
    if (is_wire()) return {reinterpret_cast<const char*>(wire_value()) + 2, wire_value()[1]};
    std::uint64_t bytes;
    std::memcpy(&bytes, payload(), sizeof(bytes));
    return {reinterpret_cast<const char*>(payload() + 8), static_cast<std::size_t>(bytes)};
  }
  [[nodiscard]] static const FieldEntry* at(const unsigned char* where) noexcept {
    return reinterpret_cast<const FieldEntry*>(where);
  }
};
static_assert(sizeof(FieldEntry) == 8);

Value copy_value(const FieldEntry& entry);

// Which of 64 bits stands for a key.
inline std::uint64_t key_bit(std::string_view key) noexcept {
  std::uint64_t first = 0;
  std::uint64_t last = 0;
  const std::size_t size = key.size();
  if (size >= 8) {
    std::memcpy(&first, key.data(), 8);
    std::memcpy(&last, key.data() + size - 8, 8);
  } else if (size >= 4) {
    std::memcpy(&first, key.data(), 4);
    std::memcpy(&last, key.data() + size - 4, 4);
  } else if (size > 0) {
    first = static_cast<unsigned char>(key[0]);
    last = static_cast<unsigned char>(key[size - 1]);
  }
  return std::uint64_t{1} << (((first ^ (last << 29U | last >> 35U)) * 0x9e3779b97f4a7c15U) >> 58U);
}

class FieldBuffer {
 public:
  static constexpr std::size_t kMaxKeys = 128;
  static constexpr std::size_t kMaxKeyBytes = 255;
  static constexpr std::size_t kMaxBytes = 16U << 20U;
  static constexpr unsigned kMaxDepth = 64;

  FieldBuffer() noexcept = default;
  ~FieldBuffer() {
    if (data_ != inline_) std::free(data_);
  }
  FieldBuffer(const FieldBuffer&) = delete;
  FieldBuffer& operator=(const FieldBuffer&) = delete;

  // Each replaces what is under that key (of that sort), at its place. False: over a limit, or no memory; nothing
  // changed.
  bool put_null(std::string_view key, std::uint8_t flags) noexcept;
  bool put_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept;
  bool put_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept;
  bool put_value(std::string_view key, const Value& value, std::uint8_t flags) noexcept;
  bool put_texts(std::string_view key, const Text* values, std::size_t count, std::uint8_t flags) noexcept;
  bool put_entry(std::string_view key, const FieldEntry& value, std::uint8_t flags) noexcept;

  // The usual case of these, without a call: the field can have the wire form, its key is new, and there is room. Asks
  // for no memory. False: it is not so, and nothing was done.
  bool put_usual_word(std::string_view key, Value::Type type, std::uint64_t word) noexcept {
    const WireEntry entry = begin_wire(key, type, 1 + wire::varint_size(word));
    if (entry.value == nullptr) return false;
    entry.value[0] = wire::tag(type == Value::Type::integer ? wire::kInt : wire::kBool, wire::kVarint);
    wire::write_varint(entry.value + 1, word);
    finish_wire(entry);
    return true;
  }
  bool put_usual_real(std::string_view key, double real) noexcept {
    const WireEntry entry = begin_wire(key, Value::Type::real, 1 + sizeof(real));
    if (entry.value == nullptr) return false;
    entry.value[0] = wire::tag(wire::kDouble, wire::kFixed64);
    std::memcpy(entry.value + 1, &real, sizeof(real));
    finish_wire(entry);
    return true;
  }
  bool put_usual_string(std::string_view key, std::string_view text) noexcept {
    if (text.size() > FieldEntry::kMostWireText) return false;
    const WireEntry entry = begin_wire(key, Value::Type::string, 2 + text.size());
    if (entry.value == nullptr) return false;
    entry.value[0] = wire::tag(wire::kString, wire::kDelimited);
    entry.value[1] = static_cast<unsigned char>(text.size());
    entry.value[2 + text.size()] = 0;
    if (!is_ascii(copy_bytes(entry.value + 2, text.data(), text.size()))) return false;
    finish_wire(entry);
    return true;
  }

  // What nopspan derives (FieldEntry::kOwn), unless there is a field of that key and sort. False as above.
  bool put_derived(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t sort) noexcept;

  // What nopspan adds for handlers (FieldEntry::kAdded): not counted as a key, and not looked for; it must not be
  // there.
  void add_null(std::string_view key, std::uint8_t flags = 0) noexcept;
  void add_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags = 0) noexcept;
  void add_string(std::string_view key, std::string_view value, std::uint8_t flags = 0) noexcept;

  // Makes room for so many bytes more, so that adding them does not move the entries.
  void reserve(std::size_t more) noexcept { grow(size_ + more); }

  [[nodiscard]] const FieldEntry* find(std::string_view key, bool measurement) const noexcept;
  // Removes the metadata under that key, if there is some.
  void erase(std::string_view key) noexcept;
  void erase_measurements(bool added_only = false) noexcept {
    if ((flags_seen_ & FieldEntry::kMeasurement) != 0) erase_some_measurements(added_only);
  }

  [[nodiscard]] const unsigned char* begin() const noexcept { return data_; }
  [[nodiscard]] const unsigned char* end() const noexcept { return data_ + size_; }

 private:
  static constexpr std::size_t padded(std::size_t size) noexcept { return (size + 7U) & ~std::size_t{7}; }

  // An entry that is written behind the last one, and no entry before finish_wire().
  struct WireEntry {
    unsigned char* value;  // where it comes; null: it is no usual one
    std::size_t end;       // what size_ will be
    std::uint64_t key_bit;
  };
  // Writes all but the value, which takes `value_size` bytes. There are kBehindWire bytes more in the block.
  __attribute__((always_inline)) WireEntry begin_wire(std::string_view key, Value::Type type,
                                                      std::size_t value_size) noexcept {
    constexpr std::size_t kBeforeKey = sizeof(FieldEntry) + FieldEntry::kWireKeyAt;
    constexpr std::size_t kMost = padded(sizeof(FieldEntry) + FieldEntry::kMostWire + 1) + FieldEntry::kBehindWire;
    const std::size_t key_size = key.size();
    if (key_size > FieldEntry::kMostWireKey || capacity_ - size_ < kMost || keys_ == kMaxKeys) return {};
    const std::uint64_t bit = key_bit(key);
    if ((keys_seen_ & bit) != 0) return {};
    unsigned char* const at = data_ + size_;
    const std::size_t size = padded(kBeforeKey + key_size + FieldEntry::kWireValueAt + value_size + 1);
    const std::size_t end = size_ + size;
    new (at)
        FieldEntry{static_cast<std::uint32_t>(size), static_cast<std::uint16_t>(key_size), type, FieldEntry::kWire};
    at[8] = wire::tag(wire::kSpanAttributes, wire::kDelimited);
    at[9] = static_cast<unsigned char>(key_size + value_size + 4);
    at[10] = wire::tag(wire::kKey, wire::kDelimited);
    at[11] = static_cast<unsigned char>(key_size);
    unsigned char* const value = at + kBeforeKey + key_size;
    value[0] = wire::tag(wire::kKeyValueValue, wire::kDelimited);
    value[1] = static_cast<unsigned char>(value_size);
    if (!is_ascii(copy_bytes(at + kBeforeKey, key.data(), key_size))) return {};
    return {value + FieldEntry::kWireValueAt, end, bit};
  }
  void finish_wire(const WireEntry& entry) noexcept {
    size_ = entry.end;
    ++keys_;
    keys_seen_ |= entry.key_bit;
  }

  // Appends an entry with room for `payload` bytes; null if it does not fit.
  FieldEntry* append(std::string_view key, Value::Type type, std::size_t payload, std::uint8_t flags) noexcept;
  bool append_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept;
  bool append_value(std::string_view key, const Value& value, std::uint8_t flags, unsigned depth) noexcept;
  bool grow(std::size_t needed) noexcept;
  void erase_some_measurements(bool added_only) noexcept;
  FieldEntry* append_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept;
  // The entry at `from` is complete. It replaces an older entry of the same key. False if there are too many keys.
  bool replace_older(std::size_t from) noexcept;

  alignas(8) unsigned char inline_[768];
  unsigned char* data_ = inline_;
  std::size_t size_ = 0;
  std::size_t capacity_ = sizeof(inline_);
  std::size_t keys_ = 0;         // without what nopspan added
  std::uint64_t keys_seen_ = 0;  // the bits of all keys, and maybe of others
  std::uint8_t flags_seen_ = 0;  // the flags of all entries, and maybe others
};

}  // namespace nopspan::detail
