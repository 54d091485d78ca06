// SPDX-License-Identifier: Apache-2.0
// What became of every entry that processes emitted: nothing is lost without a count.
#pragma once

#include "model/span.h"

#include <nlohmann/json_fwd.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace nopspan::collector {

// Entries (spans, events, retries, gauges). emitted = the sum of all others but held_by_killed and estimated, and
// closes exactly unless processes were killed where the kernel does not let their last buffer be read.
struct Counts {
  std::uint64_t emitted = 0;         // from the sequences that processes number their entries by
  std::uint64_t delivered = 0;       // given to the command
  std::uint64_t filtered = 0;        // left out as the filter says, in the kernel or here
  std::uint64_t ring_full = 0;       // no room in the ring buffer: a larger --buffer, or a filter
  std::uint64_t unreadable = 0;      // the kernel could not read them: a page was not in memory
  std::uint64_t too_large = 0;       // a batch over the largest size class
  std::uint64_t malformed = 0;       // no entries as the ABI has them: a hostile or broken process
  std::uint64_t missed = 0;          // the kernel did not run the program for a hit
  std::uint64_t discarded = 0;       // by the library, because nobody listened any more
  std::uint64_t export_dropped = 0;  // delivered here, and then lost by the command: disk full, receiver down
  std::uint64_t held_by_killed = 0;  // at most so many more were in buffers of killed processes; not in emitted

  [[nodiscard]] std::uint64_t lost() const {
    return ring_full + unreadable + too_large + malformed + missed + discarded + export_dropped;
  }
  [[nodiscard]] bool closes() const { return emitted == delivered + filtered + lost(); }
  Counts& operator+=(const Counts& other);
};

struct ProcessLedger {
  ProcessPointer process;
  Counts counts;
};

struct Ledger {
  std::vector<ProcessLedger> processes;  // those that ended too, up to a bound: the rest are in `others`
  Counts others;
  std::uint64_t others_processes = 0;
  Counts total;
};

// {"emitted": …, …, "closes": true}
nlohmann::ordered_json to_json(const Counts& counts);
// Throws Failure with kMisused if it is nothing that to_json() made.
Counts counts_from_json(const nlohmann::ordered_json& json);
// {"total": {…}, "processes": [{"pid": …, "command": …, …}]}
nlohmann::ordered_json to_json(const Ledger& ledger);
// The ledger that to_json() wrote; of other JSON what there is of it.
Ledger ledger_of(const nlohmann::ordered_json& json);
// One or a few lines for people, as commands print on stderr when they end: what was delivered, and what was lost why.
std::string to_text(const Ledger& ledger);

}  // namespace nopspan::collector
