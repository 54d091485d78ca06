// SPDX-License-Identifier: Apache-2.0
// Fields as a sequence of entries in one block of memory: no allocation for the usual few, one copy to keep them.
#pragma once

#include "copy_bytes.h"

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

  [[nodiscard]] const char* key_data() const noexcept { return reinterpret_cast<const char*>(this + 1); }
  [[nodiscard]] std::string_view key() const noexcept { return {key_data(), key_size}; }
  [[nodiscard]] const unsigned char* payload() const noexcept {
    return reinterpret_cast<const unsigned char*>(this + 1) + ((key_size + 8U) & ~7U);
  }
  [[nodiscard]] const unsigned char* end() const noexcept {
    return reinterpret_cast<const unsigned char*>(this) + size;
  }
  [[nodiscard]] std::uint64_t word() const noexcept {
    std::uint64_t value;
    std::memcpy(&value, payload(), sizeof(value));
    return value;
  }
  [[nodiscard]] std::int64_t as_int() const noexcept { return static_cast<std::int64_t>(word()); }
  [[nodiscard]] double as_double() const noexcept {
    double value;
    std::memcpy(&value, payload(), sizeof(value));
    return value;
  }
  [[nodiscard]] std::string_view as_string() const noexcept {
    return {reinterpret_cast<const char*>(payload() + 8), static_cast<std::size_t>(word())};
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
  return std::uint64_t{1} << ((((first ^ size) * 0x9e3779b97f4a7c15U + last) * 0xff51afd7ed558ccdU) >> 58U);
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

  // The usual case of put_word() and put_string(), without a call: a key that was not set before, and room for it. Asks
  // for no memory. False: nothing was done, put_word() or put_string() has to.
  bool put_new_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept {
    unsigned char* payload = begin_new(key, type, sizeof(word), flags);
    if (payload == nullptr) return false;
    std::memcpy(payload, &word, sizeof(word));
    return true;
  }
  bool put_new_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept {
    const std::uint64_t size = value.size();
    if (size >= sizeof(inline_)) return false;
    unsigned char* payload = begin_new(key, Value::Type::string, 8 + size + 1, flags);
    if (payload == nullptr) return false;
    std::memcpy(payload, &size, sizeof(size));
    payload[8 + size] = 0;
    copy_bytes(payload + 8, value.data(), size);
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

  // Empty again; memory beyond the inline block is given back.
  void reset() noexcept;

 private:
  static constexpr std::size_t padded(std::size_t size) noexcept { return (size + 7U) & ~std::size_t{7}; }

  // Writes an entry but for its payload, and returns where that lies; null where the key may be there, or is a long
  // one, or where there is no room.
  unsigned char* begin_new(std::string_view key, Value::Type type, std::size_t payload, std::uint8_t flags) noexcept {
    const std::uint64_t bit = key_bit(key);
    const std::size_t key_size = padded(key.size() + 1);
    const std::size_t size = sizeof(FieldEntry) + key_size + padded(payload);
    if ((keys_seen_ & bit) != 0 || keys_ == kMaxKeys || key.size() > 32 || size > capacity_ - size_) return nullptr;
    unsigned char* at = data_ + size_;
    new (at) FieldEntry{static_cast<std::uint32_t>(size), static_cast<std::uint16_t>(key.size()), type, flags};
    at += sizeof(FieldEntry) + key_size;
    std::memset(at - 8, 0, 8);  // the key's end, before the key
    copy_bytes(at - key_size, key.data(), key.size());
    size_ += size;
    keys_ += (flags & (FieldEntry::kAdded | FieldEntry::kOwn)) == 0 ? 1 : 0;
    keys_seen_ |= bit;
    flags_seen_ |= flags;
    return at;
  }

  // Appends an entry with room for `payload` bytes; null if it does not fit.
  FieldEntry* append(std::string_view key, Value::Type type, std::size_t payload, std::uint8_t flags) noexcept;
  bool append_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept;
  bool append_value(std::string_view key, const Value& value, std::uint8_t flags, unsigned depth) noexcept;
  bool grow(std::size_t needed) noexcept;
  void erase_some_measurements(bool added_only) noexcept;
  FieldEntry* append_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept;
  // The entry at `from` is complete: it takes the place of an older one of its key.
  bool settle(std::size_t from) noexcept;

  alignas(8) unsigned char inline_[768];
  unsigned char* data_ = inline_;
  std::size_t size_ = 0;
  std::size_t capacity_ = sizeof(inline_);
  std::size_t keys_ = 0;         // without what nopspan added
  std::uint64_t keys_seen_ = 0;  // the bits of all keys, and maybe of others
  std::uint8_t flags_seen_ = 0;  // the flags of all entries, and maybe others
};

}  // namespace nopspan::detail
