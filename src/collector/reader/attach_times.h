// SPDX-License-Identifier: Apache-2.0
// The times in which the tracer attached to files. What a process emits before its file is attached is not received.
// So a request that ran meanwhile may lack spans. All times are of CLOCK_MONOTONIC, so that changes of the wall clock
// do not matter.
#pragma once

#include "stream/messages.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

class AttachTimes {
 public:
  // At first an attach is in progress: the one to everything that is found at the start. It has no begin, so it also
  // overlaps spans whose given times are before the start of the collector.
  AttachTimes();

  // An attach begins. Does nothing if one is in progress.
  void begin(std::uint64_t now_ns);
  // The attach has ended: everything that the processes emit from now on is received. If nothing was attached, the
  // attach is forgotten. Does nothing if no attach is in progress.
  void end(std::uint64_t now_ns, bool has_attached);
  void add(const AttachChange& change) {
    change.begins ? begin(change.time_ns) : end(change.time_ns, change.has_attached);
  }

  // Whether an attach was in progress in this time, or is in progress and began before `end_ns`.
  [[nodiscard]] bool overlap(std::uint64_t start_ns, std::uint64_t end_ns) const;

 private:
  // If there are more, the oldest ones count as one.
  static constexpr std::size_t kMost = 1024;

  struct Interval {
    std::uint64_t began_ns, ended_ns;
  };

  std::vector<Interval> intervals_;  // in order. If an attach is in progress, it is the last one
};

}  // namespace nopspan::collector
