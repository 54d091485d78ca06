// SPDX-License-Identifier: Apache-2.0
// The requests in flight that began before the attach. They have no open spans, but an engine names them by keys of its
// own in its steps.
#pragma once

#include "model/entry.h"

#include <nopspan/probes.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <vector>

namespace nopspan::collector {

class EarlyRequests {
 public:
  // Adds the steps of a batch that a thread of a copy of the library holds. It may be anything; the work and the memory
  // used are bounded.
  void add(std::string_view bytes, std::uint64_t entries);
  // So many bytes of batches could not be read.
  void add_unread(std::uint64_t bytes) { unread_ += bytes / sizeof(nopspan_member); }
  // The keys of the requests in the last step of each engine.
  [[nodiscard]] std::vector<std::uint64_t> keys() const;
  // Members of these steps that were not read. Each may be another such request. A step may be too large for the buffer
  // of its thread: the buffer then holds only its last members.
  [[nodiscard]] std::uint64_t unread() const;

 private:
  static constexpr std::size_t kMostEngines = 1024, kMostKeys = 65'536;
  struct Last {
    std::uint64_t start_ns = 0, span_id = 0;
    std::uint64_t members = 0, read = 0;
    std::set<std::uint64_t> keys;
  };

  void add_members(Last& to, const Entry& from);

  std::map<std::uint64_t, Last> steps_;  // by the number of the engine
  std::vector<Last> parts_;              // of steps whose beginning, with the number of the engine, is not known
  std::size_t keys_ = 0;                 // of all of them
  std::uint64_t unread_ = 0;             // members for which there was no room or no time, at most
};

}  // namespace nopspan::collector
