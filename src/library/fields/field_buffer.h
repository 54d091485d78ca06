// SPDX-License-Identifier: Apache-2.0
// The fields of a span or event, as a sequence of entries in one block of memory.
//
// How it works: each setter appends an entry. If the key was set before, the new entry replaces the old one at its
// place. The first 768 bytes are inside the buffer, and more are in a block (memory/slabs.h). A copy of all fields is
// one copy of bytes. Short fields are stored in the bytes that OTLP has for them (wire form), so that the encoder only
// copies them. Finding a key is a linear search, but a 64-bit filter of the keys (keys_seen_) avoids most searches.
//
// Limits: 128 keys, 255 bytes per key, 16 MiB in total and 64 levels of nesting. A field beyond them is dropped, and
// the caller counts it. Not thread-safe.
#pragma once

#include "base/copy_bytes.h"
#include "fields/otlp_wire.h"
#include "memory/slabs.h"

#include <nopspan/detail/field_calls.h>
#include <nopspan/detail/short_key.h>
#include <nopspan/event.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

namespace nopspan::detail {

// An entry has one of two forms.
//
// Plain form: this header, the key with a NUL, padded to 8 bytes, and the payload, padded to 8 bytes. The payload of a
// number or flag has 8 bytes. The payload of a string is its length (8 bytes), its bytes and a NUL. The payload of a
// list or map is its entries; those of a list have an empty key.
//
// Wire form (kWire): this header, the attribute as OTLP encodes it (one element of `repeated KeyValue`), a NUL and
// padding. It is used for metadata that is not content: flags, numbers and texts of at most kMostWireText bytes. The
// key has at most kMostWireKey bytes. Key and text are ASCII. So every length in it takes one byte.
struct FieldEntry {
  std::uint32_t size;  // of the whole entry in bytes, a multiple of 8
  std::uint16_t key_size;
  Value::Type type;
  std::uint8_t flags;

  static constexpr std::uint8_t kMeasurement = 1;  // otherwise: metadata
  static constexpr std::uint8_t kContent = 2;
  static constexpr std::uint8_t kOwn = 8;          // set by nopspan; becomes an attribute; not counted against kMaxKeys
  static constexpr std::uint8_t kAdded = 4;        // set by nopspan for handlers; does not become an attribute
  static constexpr std::uint8_t kProbesOnly = 16;  // only becomes an attribute: handlers see it in another form
  static constexpr std::uint8_t kWire = 32;        // in wire form; no other flag is set, except kStart
  static constexpr std::uint8_t kStart = 64;       // see mark_as_start()
  static constexpr std::uint8_t kCounter = 128;    // a measurement of engine.stats that is a counter

  static constexpr std::size_t kMostWireKey = 32;
  static constexpr std::size_t kMostWireText = 64;
  // The key follows the tags and lengths of the attribute and of the key: 4 bytes. Then come the tag and length of the
  // value: 2 bytes.
  static constexpr std::size_t kWireKeyAt = 4;
  static constexpr std::size_t kWireValueAt = 2;
  static constexpr std::size_t kMostWire = kWireKeyAt + kMostWireKey + kWireValueAt + 2 + kMostWireText;
  static_assert(kMostWire - 2 < 0x80);
  static constexpr std::size_t kBehindWire = 16;  // readable bytes after an entry, so that it can be copied in blocks

  [[nodiscard]] bool is_wire() const noexcept { return (flags & kWire) != 0; }
  [[nodiscard]] const unsigned char* wire() const noexcept { return reinterpret_cast<const unsigned char*>(this + 1); }
  [[nodiscard]] std::size_t wire_size() const noexcept { return 2 + std::size_t{wire()[1]}; }
  // The tag of the value's type. The value follows it. The value of a string begins with its length.
  [[nodiscard]] const unsigned char* wire_value() const noexcept {
    return wire() + kWireKeyAt + key_size + kWireValueAt;
  }

  [[nodiscard]] std::string_view key() const noexcept {
    return {reinterpret_cast<const char*>(wire()) + (is_wire() ? kWireKeyAt : 0), key_size};
  }
  // Only for entries in plain form.
  [[nodiscard]] const unsigned char* payload() const noexcept { return wire() + ((key_size + 8U) & ~7U); }
  [[nodiscard]] const unsigned char* end() const noexcept {
    return reinterpret_cast<const unsigned char*>(this) + size;
  }
  // Only for numbers and flags.
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

// What FieldEntry::as_double() turns back into the number.
inline std::uint64_t real_word(double real) noexcept {
  std::uint64_t word;
  std::memcpy(&word, &real, sizeof(word));
  return word;
}

Value copy_value(const FieldEntry& entry);

// The bit of a key in keys_seen_: a hash of its first and last bytes.
inline std::uint64_t key_bit(std::string_view key) noexcept {
  return std::uint64_t{1} << key_bit_number(key_ends(key.data(), key.size()));
}

// A ShortKey as the library gets it.
struct KeyWords {
  std::uint64_t first;
  std::uint64_t second;
  std::uint32_t size_and_bit;

  [[nodiscard]] std::size_t size() const noexcept { return size_and_bit & 0xffU; }
  [[nodiscard]] unsigned bit() const noexcept { return size_and_bit >> 8U; }
};

class FieldBuffer {
 public:
  static constexpr std::size_t kMaxKeys = 128;
  static constexpr std::size_t kMaxKeyBytes = 255;
  static constexpr std::size_t kMaxBytes = 16U << 20U;
  static constexpr unsigned kMaxDepth = 64;

  FieldBuffer() noexcept {}  // NOLINT(modernize-use-equals-default): that would let {} clear inline_
  ~FieldBuffer() {
    if (__builtin_expect(data_ != inline_, 0)) give_back_block(data_);
  }
  FieldBuffer(const FieldBuffer&) = delete;
  FieldBuffer& operator=(const FieldBuffer&) = delete;

  // Each sets a field. If there is a field with that key and of that sort (see kMeasurement, kProbesOnly), it is
  // replaced at its place. False, with nothing changed, if a limit is exceeded or memory runs out.
  [[nodiscard]] bool put_null(std::string_view key, std::uint8_t flags) noexcept;
  [[nodiscard]] bool put_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept;
  [[nodiscard]] bool put_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept;
  [[nodiscard]] bool put_value(std::string_view key, const Value& value, std::uint8_t flags) noexcept;
  [[nodiscard]] bool put_texts(std::string_view key, const Text* values, std::size_t count,
                               std::uint8_t flags) noexcept;
  // The texts as one string, with a comma between two of them.
  [[nodiscard]] bool put_joined(std::string_view key, const Text* values, std::size_t count,
                                std::uint8_t flags) noexcept;
  [[nodiscard]] bool put_entry(std::string_view key, const FieldEntry& value, std::uint8_t flags) noexcept;

  // To set a list or map item by item: open_items() writes its header after the last entry, add_item() adds an item
  // that is not a list or map itself, and close_items() ends what was opened last. `depth` is 0 for the field itself.
  // All return whether it worked. If it did not, or the field is complete, put_items() ends the field: its entry begins
  // at `from`.
  bool open_items(std::string_view key, Value::Type type, std::uint8_t flags, unsigned depth) noexcept {
    return depth <= kMaxDepth && append(key, type, 0, flags) != nullptr;
  }
  bool add_item(std::string_view key, const Item& item, unsigned depth) noexcept;
  void close_items(std::size_t from) noexcept {
    reinterpret_cast<FieldEntry*>(data_ + from)->size = static_cast<std::uint32_t>(size_ - from);
  }
  bool put_items(std::size_t from, bool complete) noexcept {
    if (!complete) size_ = from;
    return complete && replace_older(from);
  }

  // Inline shortcuts for the usual case: the field can be stored in wire form, its key is new, and there is room. They
  // do not allocate. False, with nothing changed, in all other cases.
  [[nodiscard]] bool put_usual_word(std::string_view key, Value::Type type, std::uint64_t word) noexcept {
    const WireEntry entry = begin_wire(key, type, 1 + wire::varint_size(word));
    if (entry.value == nullptr) return false;
    entry.value[0] = wire::tag(type == Value::Type::integer ? wire::kInt : wire::kBool, wire::kVarint);
    wire::write_varint(entry.value + 1, word);
    finish_wire(entry);
    return true;
  }
  [[nodiscard]] bool put_usual_real(std::string_view key, double real) noexcept {
    const WireEntry entry = begin_wire(key, Value::Type::real, 1 + sizeof(real));
    if (entry.value == nullptr) return false;
    entry.value[0] = wire::tag(wire::kDouble, wire::kFixed64);
    std::memcpy(entry.value + 1, &real, sizeof(real));
    finish_wire(entry);
    return true;
  }
  [[nodiscard]] bool put_usual_string(std::string_view key, std::string_view text) noexcept {
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

  // The same for a ShortKey. The fields are still in the first memory, so there are fewer than kMaxKeys.
  [[nodiscard]] bool put_short_word(const KeyWords& key, Value::Type type, std::uint64_t word) noexcept {
    const std::size_t value_size = 1 + wire::varint_size(word);
    unsigned char* const value = begin_short(key, type, value_size);
    if (value == nullptr) return false;
    // Only the first byte of a value below 128 is needed, but a store of four bytes is as quick.
    store_value(value, value_size, wire::tag(type == Value::Type::integer ? wire::kInt : wire::kBool, wire::kVarint),
                static_cast<unsigned char>(word));
    if (__builtin_expect(word >= 0x80, 0)) wire::write_varint(value + 3, word);
    finish_short(key, value_size);
    return true;
  }
  [[nodiscard]] bool put_short_real(const KeyWords& key, double real) noexcept {
    constexpr std::size_t kSize = 1 + sizeof(real);
    unsigned char* const value = begin_short(key, Value::Type::real, kSize);
    if (value == nullptr) return false;
    store_value(value, kSize, wire::tag(wire::kDouble, wire::kFixed64), 0);
    std::memcpy(value + 3, &real, sizeof(real));
    finish_short(key, kSize);
    return true;
  }
  [[nodiscard]] bool put_short_string(const KeyWords& key, const char* text, std::size_t size) noexcept {
    if (size > FieldEntry::kMostWireText) return false;
    unsigned char* const value = begin_short(key, Value::Type::string, 2 + size);
    if (value == nullptr) return false;
    store_value(value, 2 + size, wire::tag(wire::kString, wire::kDelimited), static_cast<unsigned char>(size));
    value[4 + size] = 0;
    if (!is_ascii(copy_bytes(value + 4, text, size))) return false;
    finish_short(key, 2 + size);
    return true;
  }

  // Sets a field that nopspan derives (FieldEntry::kOwn), unless there is a field of that key and sort. Returns false
  // as the setters above do.
  [[nodiscard]] bool put_derived(std::string_view key, Value::Type type, std::uint64_t word,
                                 std::uint8_t sort) noexcept;

  // Add a field for handlers (FieldEntry::kAdded), which is not counted against kMaxKeys. The key must be new: there is
  // no search for an older entry. The entries never move, because handlers may have views of them. So reserve() must
  // have made room. Otherwise the field is dropped and counted.
  void add_null(std::string_view key) noexcept;
  void add_string(std::string_view key, std::string_view value) noexcept;

  // The same for an integer measurement. Inline, so that the compiler knows the key.
  __attribute__((always_inline)) void add_measured(std::string_view key, std::uint64_t word) noexcept {
    const std::size_t key_size = padded(key.size() + 1);
    const std::size_t size = sizeof(FieldEntry) + key_size + sizeof(word);
    if (__builtin_expect(size > capacity_ - size_, 0) && !has_room(key, sizeof(word))) return;
    unsigned char* const at = data_ + size_;
    new (at) FieldEntry{static_cast<std::uint32_t>(size), static_cast<std::uint16_t>(key.size()), Value::Type::integer,
                        FieldEntry::kMeasurement | FieldEntry::kAdded};
    std::memset(at + sizeof(FieldEntry) + key_size - 8, 0, 8);
    std::memcpy(at + sizeof(FieldEntry), key.data(), key.size());
    std::memcpy(at + sizeof(FieldEntry) + key_size, &word, sizeof(word));
    flags_seen_ |= FieldEntry::kMeasurement | FieldEntry::kAdded;
    keys_seen_ |= key_bit(key);
    size_ += size;
  }

  // Makes room for `more` bytes of added fields, unless memory runs out. They may exceed kMaxBytes.
  void reserve(std::size_t more) noexcept { grow(size_ + more, kMaxBytes + more); }

  [[nodiscard]] const FieldEntry* find(std::string_view key, bool measurement) const noexcept;
  // The text that was set with that key, for what leaves the process. Its data() is null if there is none, or if it is
  // content.
  [[nodiscard]] std::string_view find_text(std::string_view key) const noexcept;
  // Marks the metadata with that key, if there is any, as set at the start of the span.
  void mark_as_start(std::string_view key) noexcept;
  // True if metadata with that key was set after mark_as_start().
  [[nodiscard]] bool is_set_late(std::string_view key) const noexcept {
    const FieldEntry* entry = find(key, false);
    return entry != nullptr && (entry->flags & FieldEntry::kStart) == 0;
  }
  // Marks as content the metadata whose key is_content() returns true for. Removes it instead if content is not kept.
  template <class IsContent>
  void mark_content(const IsContent& is_content, bool keep) noexcept {
    for (std::size_t at = 0; at < size_;) {
      const FieldEntry& entry = *FieldEntry::at(data_ + at);
      constexpr std::uint8_t kNot = FieldEntry::kMeasurement | FieldEntry::kContent;
      if ((entry.flags & kNot) != 0 || !is_content(entry.key()) || (keep && make_content(at))) {
        at += FieldEntry::at(data_ + at)->size;
      } else {
        erase_at(at);
      }
    }
  }
  // Makes the measurement with that key one for handlers only (FieldEntry::kAdded), and removes the metadata.
  void keep_for_handlers(std::string_view key) noexcept;
  // Removes the metadata with that key, if there is any.
  void erase(std::string_view key) noexcept;
  void erase_measurements(bool added_only = false) noexcept {
    if ((flags_seen_ & FieldEntry::kMeasurement) != 0) erase_some_measurements(added_only);
  }

  [[nodiscard]] const unsigned char* begin() const noexcept { return data_; }
  [[nodiscard]] const unsigned char* end() const noexcept { return data_ + size_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }

 private:
  static constexpr std::size_t padded(std::size_t size) noexcept { return (size + 7U) & ~std::size_t{7}; }
  static constexpr std::size_t string_payload(std::size_t size) noexcept { return 8 + size + 1; }
  static constexpr std::size_t entry_size(std::string_view key, std::size_t payload) noexcept {
    return sizeof(FieldEntry) + padded(key.size() + 1) + padded(payload);
  }

  // An entry that is being written after the last one. It becomes part of the buffer in finish_wire().
  struct WireEntry {
    unsigned char* value;  // where to write the value; null if the field is not a usual one
    std::size_t end;       // the value of size_ after finish_wire()
    std::uint64_t key_bit;
  };
  // Writes the entry except its value, which has `value_size` bytes. Leaves kBehindWire bytes free after the entry.
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

  static constexpr std::size_t kInline = 768;
  // If the fields so far are no longer than this, one more in wire form has room in the first memory.
  static constexpr std::size_t kLastInline =
      kInline - (sizeof(FieldEntry) + FieldEntry::kMostWire + 8 + FieldEntry::kBehindWire);
  static_assert(kInline / (sizeof(FieldEntry) + 8) < kMaxKeys);

  static std::size_t short_size(const KeyWords& key, std::size_t value_size) noexcept {
    return padded(sizeof(FieldEntry) + FieldEntry::kWireKeyAt + key.size() + FieldEntry::kWireValueAt + value_size + 1);
  }
  // begin_wire() for a ShortKey. Returns where the tag and length of the value go, or null.
  __attribute__((always_inline)) unsigned char* begin_short(const KeyWords& key, Value::Type type,
                                                            std::size_t value_size) noexcept {
    if (__builtin_expect(size_ > kLastInline || data_ != inline_ || (keys_seen_ >> key.bit() & 1U) != 0, 0)) {
      return nullptr;
    }
    unsigned char* const at = data_ + size_;
    const std::size_t key_size = key.size();
    const std::uint64_t header = short_size(key, value_size) | key_size << 32U |
                                 std::uint64_t{static_cast<unsigned char>(type)} << 48U |
                                 std::uint64_t{FieldEntry::kWire} << 56U;
    const auto before_key = static_cast<std::uint32_t>(
        wire::tag(wire::kSpanAttributes, wire::kDelimited) | (key_size + value_size + 4) << 8U |
        wire::tag(wire::kKey, wire::kDelimited) << 16U | key_size << 24U);
    std::memcpy(at, &header, sizeof(header));
    std::memcpy(at + 8, &before_key, sizeof(before_key));
    std::memcpy(at + 12, &key.first, sizeof(key.first));
    std::memcpy(at + 20, &key.second, sizeof(key.second));
    return at + 12 + key_size;
  }
  // Writes the tag and length of the value, the tag of its type, and its first byte.
  static void store_value(unsigned char* at, std::size_t value_size, unsigned char tag, unsigned char first) noexcept {
    const auto word = static_cast<std::uint32_t>(wire::tag(wire::kKeyValueValue, wire::kDelimited) | value_size << 8U |
                                                 std::uint32_t{tag} << 16U | std::uint32_t{first} << 24U);
    std::memcpy(at, &word, sizeof(word));
  }
  void finish_short(const KeyWords& key, std::size_t value_size) noexcept {
    size_ += short_size(key, value_size);
    ++keys_;
    keys_seen_ |= std::uint64_t{1} << key.bit();
  }

  // Appends an entry with room for `payload` bytes. Null if it does not fit.
  FieldEntry* append(std::string_view key, Value::Type type, std::size_t payload, std::uint8_t flags) noexcept;
  bool append_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept;
  bool append_value(std::string_view key, const Value& value, std::uint8_t flags, unsigned depth) noexcept;
  bool grow(std::size_t needed, std::size_t most = kMaxBytes) noexcept;
  // False (and counted) if an entry with `payload` bytes does not fit without moving the others.
  [[nodiscard]] bool has_room(std::string_view key, std::size_t payload) const noexcept;
  void erase_some_measurements(bool added_only) noexcept;
  void erase_at(std::size_t at) noexcept;
  // Marks the entry at `at` as content, in plain form. False, with nothing changed, if memory runs out.
  bool make_content(std::size_t at) noexcept;
  bool append_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept;
  // The entry at `from` is complete. It replaces an older entry of the same key. False if there are too many keys.
  bool replace_older(std::size_t from) noexcept;

  unsigned char* data_ = inline_;
  std::uint64_t keys_seen_ = 0;  // the bits of all keys, and possibly of keys that were removed
  std::size_t size_ = 0;
  std::size_t capacity_ = kInline;
  std::uint32_t keys_ = 0;       // the number of entries without kAdded and kOwn
  std::uint8_t flags_seen_ = 0;  // the flags of all entries, and possibly of removed ones
  alignas(8) unsigned char inline_[kInline];
};

}  // namespace nopspan::detail
