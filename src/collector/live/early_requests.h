// SPDX-License-Identifier: Apache-2.0
// The requests in flight that began before the attach. They have no open spans, but an engine names them by keys of its
// own in its steps.
#pragma once

#include "host/process_reader.h"

#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <vector>

namespace nopspan::collector {

class EarlyRequests {
 public:
  // Reads the steps that the threads of a copy of the library hold. The memory may have any content; the work and the
  // memory used are bounded.
  void read(const Target& process, std::uint64_t gate_address);
  // Adds the steps of a batch.
  void add(std::string_view bytes, std::uint64_t entries);
  // The keys of the requests in the last step of each engine.
  [[nodiscard]] std::vector<std::uint64_t> keys() const;

 private:
  static constexpr std::size_t kMostEngines = 1024, kMostKeys = 65'536, kMostBytes = std::size_t{16} << 20U;
  struct Last {
    std::uint64_t start_ns = 0, span_id = 0;
    std::set<std::uint64_t> keys;
  };

  std::map<std::uint64_t, Last> steps_;  // by the number of the engine
  std::size_t keys_ = 0;                 // of all of them
};

}  // namespace nopspan::collector
