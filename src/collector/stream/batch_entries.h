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

// The text or the members that a part of an entry (NOPSPAN_PART_TEXTS) has in the entry's own record. Empty if it has
// no such part, or if it refers to another record of the batch.
inline std::string_view own_part(std::string_view record, std::string_view batch, std::uint32_t part) {
  constexpr std::pair<std::uint32_t, std::size_t> kWords[] = {
      {NOPSPAN_PART_TIMES, 16},  {NOPSPAN_PART_USAGE, 32},  {NOPSPAN_PART_FIRST_TOKEN, 8},
      {NOPSPAN_PART_ENGINE, 56}, {NOPSPAN_PART_VALUES, 16}, {NOPSPAN_PART_STEP, sizeof(nopspan_step)}};
  nopspan_entry entry;
  nopspan_form form;
  std::string_view left = record, shared;
  if (!take_front(left, entry) || std::size_t{entry.form} * 8 > batch.size()) return {};
  shared = batch.substr(std::size_t{entry.form} * 8);
  if (!take_front(shared, form) || (form.parts & part) == 0) return {};
  std::size_t offset = 0;
  for (const auto& [bit, size] : kWords) offset += (form.parts & bit) != 0 ? size : 0;
  const unsigned before = form.parts & NOPSPAN_PART_TEXTS & (part - 1U);
  offset += sizeof(nopspan_text) * static_cast<std::size_t>(__builtin_popcount(before));
  nopspan_text where;
  if (offset > left.size()) return {};
  left.remove_prefix(offset);
  if (!take_front(left, where)) return {};
  const auto behind = static_cast<std::size_t>(left.data() - batch.data());
  const std::size_t at = std::size_t{where.offset} * 8;
  const bool is_inside = at >= behind && at + where.length <= behind + left.size();
  return is_inside ? batch.substr(at, where.length) : std::string_view();
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
