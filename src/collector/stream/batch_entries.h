// SPDX-License-Identifier: Apache-2.0
// How a batch consists of entries, without what is in them.
#pragma once

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

// The fixed part of an entry that every version of the library writes.
inline constexpr std::size_t kFixedEntry = sizeof(nopspan_entry);

// The size of the entry at the start of `bytes`. 0 if there is none: with an invalid size, the start of the next entry
// is unknown.
inline std::size_t entry_size(std::string_view bytes) {
  if (bytes.size() < kFixedEntry) return 0;
  unsigned size = 0;
  static_assert(sizeof(size) == sizeof(nopspan_entry::size) && offsetof(nopspan_entry, size) == 0);
  std::memcpy(&size, bytes.data(), sizeof(size));
  return size % 8 == 0 && size >= kFixedEntry && size <= bytes.size() ? size : 0;
}

// The number of entries that are completely in the bytes, at most `entries`.
inline std::uint64_t whole_entries(std::string_view bytes, std::uint64_t entries) {
  std::uint64_t count = 0;
  for (std::size_t size = 0; count < entries && (size = entry_size(bytes)) != 0; ++count) bytes.remove_prefix(size);
  return count;
}

}  // namespace nopspan::collector
