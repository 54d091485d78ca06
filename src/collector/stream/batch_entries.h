// SPDX-License-Identifier: Apache-2.0
// How a batch consists of entries, without what is in them.
#pragma once

#include <nopspan/probes.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <utility>

namespace nopspan::collector {

// Reads what stands at the front, and removes it. Returns false if there is too little.
template <class Struct>
bool take_front(std::string_view& left, Struct& value) {
  if (left.size() < sizeof(value)) return false;
  std::memcpy(&value, left.data(), sizeof(value));
  left.remove_prefix(sizeof(value));
  return true;
}

// The record at the start of `bytes`, without the padding behind it. Empty if there is none: with an invalid size, the
// start of the next record is unknown.
inline std::string_view record_at(std::string_view bytes) {
  unsigned short size = 0;
  static_assert(offsetof(nopspan_entry, size) == 0 && offsetof(nopspan_entry, kind) == sizeof(size));
  if (bytes.size() < 8) return {};
  std::memcpy(&size, bytes.data(), sizeof(size));
  return size >= 8 && size <= bytes.size() ? bytes.substr(0, size) : std::string_view();
}
inline unsigned char kind_of_record(std::string_view record) {
  return static_cast<unsigned char>(record[sizeof(nopspan_entry::size)]);
}
inline bool is_entry(std::string_view record) { return kind_of_record(record) < NOPSPAN_NOT_AN_ENTRY; }
// How far the next record is.
inline std::size_t padded_size(std::string_view record, std::size_t most) {
  return std::min((record.size() + 7) / 8 * 8, most);
}

// The bytes between an entry and the places of its texts: those of the parts that are words.
inline std::size_t bytes_before_texts(std::uint32_t parts) {
  constexpr std::pair<std::uint32_t, std::size_t> kParts[] = {
      {NOPSPAN_PART_TIMES, 16},  {NOPSPAN_PART_USAGE, 32},  {NOPSPAN_PART_FIRST_TOKEN, 8},
      {NOPSPAN_PART_ENGINE, 56}, {NOPSPAN_PART_VALUES, 16}, {NOPSPAN_PART_STEP, sizeof(nopspan_step)}};
  std::size_t bytes = 0;
  for (const auto& [bit, size] : kParts) bytes += (parts & bit) != 0 ? size : 0;
  return bytes;
}

// The number of entries that are completely in the bytes, at most `entries`.
inline std::uint64_t whole_entries(std::string_view bytes, std::uint64_t entries) {
  std::uint64_t count = 0;
  while (count < entries) {
    const std::string_view record = record_at(bytes);
    if (record.empty()) break;
    if (is_entry(record)) ++count;
    bytes.remove_prefix(padded_size(record, bytes.size()));
  }
  return count;
}

}  // namespace nopspan::collector
