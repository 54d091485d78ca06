// SPDX-License-Identifier: Apache-2.0
// Reads from a batch the entries that have not arrived before.
#pragma once

#include "model/entry.h"
#include "reader/batch_reader.h"
#include "reader/thread_ledger.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

// Calls on_entry() for each entry of a batch of these `sequences` that is also among the `fresh` ones. `entry` is then
// set. Returns how many fresh entries are malformed or missing in the batch.
template <class OnEntry>
std::uint64_t read_fresh(BatchReader& reader, Sequences sequences, const std::vector<Sequences>& fresh, Entry& entry,
                         const OnEntry& on_entry) {
  std::uint64_t malformed = 0;
  auto part = fresh.begin();
  std::uint64_t next_unread = sequences.first;
  const auto is_fresh = [&](std::uint64_t sequence) {
    while (part != fresh.end() && sequence >= part->next) ++part;
    return part != fresh.end() && sequence >= part->first;
  };
  for (;;) {
    const BatchReader::Outcome outcome = reader.next(entry);
    if (outcome == BatchReader::Outcome::end) break;
    entry.sequence = next_unread++;
    if (!is_fresh(entry.sequence)) continue;
    if (outcome == BatchReader::Outcome::entry) {
      on_entry();
    } else {
      ++malformed;
    }
  }
  for (; next_unread < sequences.next; ++next_unread) malformed += is_fresh(next_unread) ? 1 : 0;
  return malformed;
}

}  // namespace nopspan::collector
