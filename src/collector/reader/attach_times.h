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
  AttachTimes() : intervals_{{0, kInProgress}} {}

  // An attach begins. Does nothing if one is in progress.
  void begin(std::uint64_t now_ns) {
    if (intervals_.back().ended_ns == kInProgress) return;
    if (intervals_.size() >= kMost) {
      intervals_[1].began_ns = intervals_[0].began_ns;
      intervals_.erase(intervals_.begin());
    }
    intervals_.push_back({now_ns, kInProgress});
  }
  // The attach has ended: everything that the processes emit from now on is received. If nothing was attached, the
  // attach is forgotten. Does nothing if no attach is in progress.
  void end(std::uint64_t now_ns, bool has_attached) {
    if (intervals_.back().ended_ns != kInProgress) return;
    intervals_.back().ended_ns = now_ns;
    if (!has_attached && intervals_.size() > 1) intervals_.pop_back();
  }
  void add(const AttachChange& change) {
    change.begins ? begin(change.time_ns) : end(change.time_ns, change.has_attached);
  }

  // Whether an attach was in progress in this time, or is in progress and began before `end_ns`.
  [[nodiscard]] bool overlap(std::uint64_t start_ns, std::uint64_t end_ns) const {
    // Most spans are short, so only the last interval is usually looked at.
    for (auto interval = intervals_.rbegin(); interval != intervals_.rend() && start_ns < interval->ended_ns;
         ++interval) {
      if (end_ns >= interval->began_ns) return true;
    }
    return false;
  }

 private:
  // If there are more, the oldest ones count as one.
  static constexpr std::size_t kMost = 1024;
  static constexpr std::uint64_t kInProgress = UINT64_MAX;

  struct Interval {
    std::uint64_t began_ns, ended_ns;
  };

  std::vector<Interval> intervals_;  // in order. If an attach is in progress, it is the last one
};

}  // namespace nopspan::collector
