// SPDX-License-Identifier: Apache-2.0
#include "fields/field_buffer.h"

#include "base/counters.h"

#include <algorithm>

namespace nopspan::detail {

Value copy_value(const FieldEntry& entry) {
  switch (entry.type) {
    case Value::Type::null:
      break;
    case Value::Type::boolean:
      return entry.word() != 0;
    case Value::Type::integer:
      return entry.as_int();
    case Value::Type::real:
      return entry.as_double();
    case Value::Type::string:
      return entry.as_string();
    case Value::Type::list: {
      Value::List list;
      for (const unsigned char* at = entry.payload(); at < entry.end(); at = FieldEntry::at(at)->end()) {
        list.push_back(copy_value(*FieldEntry::at(at)));
      }
      return list;
    }
    case Value::Type::map: {
      Value::Map map;
      for (const unsigned char* at = entry.payload(); at < entry.end(); at = FieldEntry::at(at)->end()) {
        map.emplace_back(FieldEntry::at(at)->key(), copy_value(*FieldEntry::at(at)));
      }
      return map;
    }
  }
  return {};
}

bool FieldBuffer::grow(std::size_t needed, std::size_t most) noexcept {
  if (needed <= capacity_) return true;
  if (needed > most) return false;
  const Block block = take_block(std::min(most, std::max(needed, 2 * capacity_)));
  if (block.bytes == nullptr) return false;
  std::memcpy(block.bytes, data_, size_);
  if (data_ != inline_) give_back_block(data_);
  data_ = block.bytes;
  capacity_ = std::min(block.size, most);
  return true;
}

FieldEntry* FieldBuffer::append(std::string_view key, Value::Type type, std::size_t payload,
                                std::uint8_t flags) noexcept {
  if (key.size() > kMaxKeyBytes || payload > kMaxBytes) return nullptr;
  const std::size_t key_size = padded(key.size() + 1);
  const std::size_t size = entry_size(key, payload);
  if (!grow(size_ + size)) return nullptr;
  unsigned char* at = data_ + size_;
  std::memset(at, 0, sizeof(FieldEntry));
  std::memset(at + sizeof(FieldEntry) + key_size - 8, 0, 8);  // the padding; the key is written over it below
  auto* entry = reinterpret_cast<FieldEntry*>(at);
  entry->size = static_cast<std::uint32_t>(size);
  entry->key_size = static_cast<std::uint16_t>(key.size());
  entry->type = type;
  entry->flags = flags;
  flags_seen_ |= flags;
  copy_bytes(at + sizeof(FieldEntry), key.data(), key.size());
  size_ += size;
  return entry;
}

namespace {
// True if the entry counts against kMaxKeys.
bool is_counted(const FieldEntry& entry) noexcept {
  return (entry.flags & (FieldEntry::kAdded | FieldEntry::kOwn)) == 0;
}
}  // namespace

bool FieldBuffer::replace_older(std::size_t from) noexcept {
  const FieldEntry* made = FieldEntry::at(data_ + from);
  const std::uint64_t bit = key_bit(made->key());
  const bool may_be_there = (keys_seen_ & bit) != 0;
  keys_seen_ |= bit;
  for (std::size_t at = 0; may_be_there && at < from; at += FieldEntry::at(data_ + at)->size) {
    const FieldEntry* there = FieldEntry::at(data_ + at);
    constexpr std::uint8_t kSort = FieldEntry::kMeasurement | FieldEntry::kProbesOnly;
    if (there->key() != made->key() || ((there->flags ^ made->flags) & kSort) != 0) continue;
    if (is_counted(*made) && !is_counted(*there)) {
      if (keys_ == kMaxKeys) {
        size_ = from;
        return false;
      }
      ++keys_;
    } else if (!is_counted(*made) && is_counted(*there)) {
      --keys_;
    }
    const std::size_t old_size = there->size;
    const std::size_t new_size = made->size;
    if (old_size == new_size) {
      std::memcpy(data_ + at, data_ + from, new_size);
      size_ = from;
      return true;
    }
    // The entries between the two may be many megabytes, so they move only once if the new entry can be set aside.
    unsigned char aside[1024];
    if (new_size <= sizeof(aside)) {
      std::memcpy(aside, data_ + from, new_size);
      std::memmove(data_ + at + new_size, data_ + at + old_size, from - at - old_size);
      std::memcpy(data_ + at, aside, new_size);
    } else {
      std::rotate(data_ + at, data_ + from, data_ + size_);
      std::memmove(data_ + at + new_size, data_ + at + new_size + old_size, size_ - at - new_size - old_size);
    }
    size_ -= old_size;
    return true;
  }
  if (!is_counted(*made)) return true;
  if (keys_ == kMaxKeys) {
    size_ = from;
    return false;
  }
  ++keys_;
  return true;
}

bool FieldBuffer::put_null(std::string_view key, std::uint8_t flags) noexcept {
  const std::size_t from = size_;
  return append(key, Value::Type::null, 0, flags) != nullptr && replace_older(from);
}

bool FieldBuffer::put_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept {
  const std::size_t from = size_;
  return append_word(key, type, word, flags) && replace_older(from);
}

bool FieldBuffer::append_word(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t flags) noexcept {
  const FieldEntry* entry = append(key, type, sizeof(word), flags);
  if (entry != nullptr) std::memcpy(const_cast<unsigned char*>(entry->payload()), &word, sizeof(word));
  return entry != nullptr;
}

bool FieldBuffer::put_derived(std::string_view key, Value::Type type, std::uint64_t word, std::uint8_t sort) noexcept {
  return find(key, (sort & FieldEntry::kMeasurement) != 0) != nullptr ||
         put_word(key, type, word, sort | FieldEntry::kOwn);
}

bool FieldBuffer::has_room(std::string_view key, std::size_t payload) const noexcept {
  const bool fits = entry_size(key, payload) <= capacity_ - size_;
  count_unless(fits);
  return fits;
}

void FieldBuffer::add_null(std::string_view key) noexcept {
  if (!has_room(key, 0)) return;
  append(key, Value::Type::null, 0, FieldEntry::kAdded);
  keys_seen_ |= key_bit(key);
}

void FieldBuffer::add_string(std::string_view key, std::string_view value) noexcept {
  if (!has_room(key, string_payload(value.size()))) return;
  append_string(key, value, FieldEntry::kAdded);
  keys_seen_ |= key_bit(key);
}

bool FieldBuffer::put_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept {
  const std::size_t from = size_;
  return append_string(key, value, flags) && replace_older(from);
}

bool FieldBuffer::append_string(std::string_view key, std::string_view value, std::uint8_t flags) noexcept {
  if (value.size() > kMaxBytes) return false;
  const FieldEntry* entry = append(key, Value::Type::string, string_payload(value.size()), flags);
  if (entry == nullptr) return false;
  auto* payload = const_cast<unsigned char*>(entry->payload());
  const std::uint64_t size = value.size();
  std::memcpy(payload, &size, sizeof(size));
  if (size > 0) std::memcpy(payload + 8, value.data(), size);
  payload[8 + size] = 0;
  return true;
}

bool FieldBuffer::put_value(std::string_view key, const Value& value, std::uint8_t flags) noexcept {
  const std::size_t from = size_;
  return put_items(from, append_value(key, value, flags, 0));
}

bool FieldBuffer::put_texts(std::string_view key, const Text* values, std::size_t count, std::uint8_t flags) noexcept {
  const std::size_t from = size_;
  bool written = append(key, Value::Type::list, 0, flags) != nullptr;
  for (std::size_t i = 0; values != nullptr && written && i < count; ++i) {
    written =
        values[i].is_null() ? append({}, Value::Type::null, 0, 0) != nullptr : append_string({}, values[i].view(), 0);
  }
  if (written) close_items(from);
  return put_items(from, written);
}

bool FieldBuffer::add_item(std::string_view key, const Item& item, unsigned depth) noexcept {
  switch (item.type) {
    case Item::Type::boolean:
      return append_word(key, Value::Type::boolean, item.word, 0);
    case Item::Type::integer:
      return append_word(key, Value::Type::integer, item.word, 0);
    case Item::Type::natural:
      if (item.word > static_cast<std::uint64_t>(INT64_MAX)) count(counters.values_clamped);
      return append_word(key, Value::Type::integer, static_cast<std::uint64_t>(clamped_integer(item.word)), 0);
    case Item::Type::real:
      return append_word(key, Value::Type::real, real_word(item.real), 0);
    case Item::Type::text:
      if (!item.text.is_null()) return append_string(key, item.text.view(), 0);
      break;
    case Item::Type::value:
      return append_value(key, *static_cast<const Value*>(item.object), 0, depth);
    default:
      break;
  }
  return append(key, Value::Type::null, 0, 0) != nullptr;
}

bool FieldBuffer::put_joined(std::string_view key, const Text* values, std::size_t count, std::uint8_t flags) noexcept {
  std::uint64_t size = count > 0 ? count - 1 : 0;
  for (std::size_t i = 0; i < count; ++i) size += values[i].size();
  if (size > kMaxBytes) return false;
  const std::size_t from = size_;
  const FieldEntry* entry = append(key, Value::Type::string, string_payload(size), flags);
  if (entry == nullptr) return false;
  auto* at = const_cast<unsigned char*>(entry->payload());
  std::memcpy(at, &size, sizeof(size));
  at += sizeof(size);
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0) *at++ = ',';
    if (!values[i].empty()) std::memcpy(at, values[i].data(), values[i].size());
    at += values[i].size();
  }
  *at = 0;
  return replace_older(from);
}

bool FieldBuffer::put_entry(std::string_view key, const FieldEntry& value, std::uint8_t flags) noexcept {
  if (value.is_wire()) {
    return value.type == Value::Type::string ? put_string(key, value.as_string(), flags)
                                             : put_word(key, value.type, value.word(), flags);
  }
  const std::size_t from = size_;
  const auto bytes = static_cast<std::size_t>(value.end() - value.payload());
  const FieldEntry* entry = append(key, value.type, bytes, flags);
  if (entry == nullptr) return false;
  std::memcpy(const_cast<unsigned char*>(entry->payload()), value.payload(), bytes);
  return replace_older(from);
}

bool FieldBuffer::append_value(std::string_view key, const Value& value, std::uint8_t flags, unsigned depth) noexcept {
  if (depth > kMaxDepth) return false;
  switch (value.type()) {
    case Value::Type::null:
      return append(key, Value::Type::null, 0, flags) != nullptr;
    case Value::Type::string:
      return append_string(key, value.as_string(), flags);
    case Value::Type::boolean:
      return append_word(key, Value::Type::boolean, value.as_bool() ? 1 : 0, flags);
    case Value::Type::integer:
      return append_word(key, Value::Type::integer, static_cast<std::uint64_t>(value.as_int()), flags);
    case Value::Type::real:
      return append_word(key, Value::Type::real, real_word(value.as_double()), flags);
    case Value::Type::list:
    case Value::Type::map:
      break;
  }
  const std::size_t from = size_;
  if (append(key, value.type(), 0, flags) == nullptr) return false;
  for (const Value& item : value.as_list()) {
    if (!append_value({}, item, 0, depth + 1)) return false;
  }
  for (const auto& [name, item] : value.as_map()) {
    if (!append_value(name, item, 0, depth + 1)) return false;
  }
  close_items(from);
  return true;
}

const FieldEntry* FieldBuffer::find(std::string_view key, bool measurement) const noexcept {
  if ((keys_seen_ & key_bit(key)) == 0) return nullptr;
  for (const unsigned char* at = begin(); at < end(); at = FieldEntry::at(at)->end()) {
    const FieldEntry* entry = FieldEntry::at(at);
    if (((entry->flags & FieldEntry::kMeasurement) != 0) == measurement && entry->key() == key) return entry;
  }
  return nullptr;
}

std::string_view FieldBuffer::find_text(std::string_view key) const noexcept {
  const FieldEntry* const entry = find(key, false);
  const bool is_text = entry != nullptr && entry->type == Value::Type::string;
  return is_text && (entry->flags & FieldEntry::kContent) == 0 ? entry->as_string() : std::string_view();
}

void FieldBuffer::mark_as_start(std::string_view key) noexcept {
  if (const FieldEntry* entry = find(key, false); entry != nullptr) {
    const_cast<FieldEntry*>(entry)->flags |= FieldEntry::kStart;
  }
}

void FieldBuffer::keep_for_handlers(std::string_view key) noexcept {
  erase(key);
  const FieldEntry* entry = find(key, true);
  if (entry == nullptr) return;
  if (is_counted(*entry)) --keys_;
  const_cast<FieldEntry*>(entry)->flags |= FieldEntry::kAdded;
  flags_seen_ |= FieldEntry::kAdded;
}

void FieldBuffer::erase(std::string_view key) noexcept {
  const FieldEntry* entry = find(key, false);
  if (entry != nullptr) erase_at(static_cast<std::size_t>(reinterpret_cast<const unsigned char*>(entry) - data_));
}

void FieldBuffer::erase_at(std::size_t at) noexcept {
  const FieldEntry* entry = FieldEntry::at(data_ + at);
  if (is_counted(*entry)) --keys_;
  const std::size_t size = entry->size;
  std::memmove(data_ + at, data_ + at + size, size_ - at - size);
  size_ -= size;
}

bool FieldBuffer::make_content(std::size_t at) noexcept {
  auto* entry = const_cast<FieldEntry*>(FieldEntry::at(data_ + at));
  if (!entry->is_wire()) {
    entry->flags |= FieldEntry::kContent;
    flags_seen_ |= FieldEntry::kContent;
    return true;
  }
  // The new entry replaces this one at its place. Copied first, because the buffer may move.
  alignas(FieldEntry) unsigned char copy[sizeof(FieldEntry) + FieldEntry::kMostWire + 8];
  std::memcpy(copy, entry, std::min(sizeof(copy), std::size_t{entry->size}));
  entry = reinterpret_cast<FieldEntry*>(copy);
  const auto flags = static_cast<std::uint8_t>(FieldEntry::kContent | (entry->flags & FieldEntry::kStart));
  return put_entry(entry->key(), *entry, flags);
}

void FieldBuffer::erase_some_measurements(bool added_only) noexcept {
  std::size_t kept = 0;
  for (std::size_t at = 0; at < size_;) {
    const FieldEntry* entry = FieldEntry::at(data_ + at);
    const std::size_t size = entry->size;
    const bool added = (entry->flags & FieldEntry::kAdded) != 0;
    if ((entry->flags & FieldEntry::kMeasurement) != 0 && (added || !added_only)) {
      if (is_counted(*entry)) --keys_;
    } else {
      if (kept != at) std::memmove(data_ + kept, data_ + at, size);
      kept += size;
    }
    at += size;
  }
  size_ = kept;
}

}  // namespace nopspan::detail
