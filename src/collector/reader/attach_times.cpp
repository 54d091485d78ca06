// SPDX-License-Identifier: Apache-2.0
#include "reader/attach_times.h"

namespace nopspan::collector {
namespace {

constexpr std::uint64_t kInProgress = UINT64_MAX;

}  // namespace

AttachTimes::AttachTimes() : intervals_{{0, kInProgress}} {}

void AttachTimes::begin(std::uint64_t now_ns) {
  if (intervals_.back().ended_ns == kInProgress) return;
  if (intervals_.size() >= kMost) {
    intervals_[1].began_ns = intervals_[0].began_ns;
    intervals_.erase(intervals_.begin());
  }
  intervals_.push_back({now_ns, kInProgress});
}

void AttachTimes::end(std::uint64_t now_ns, bool has_attached) {
  if (intervals_.back().ended_ns != kInProgress) return;
  intervals_.back().ended_ns = now_ns;
  if (!has_attached && intervals_.size() > 1) intervals_.pop_back();
}

bool AttachTimes::overlap(std::uint64_t start_ns, std::uint64_t end_ns) const {
  // Most spans are short, so only the last interval is usually looked at.
  for (auto interval = intervals_.rbegin(); interval != intervals_.rend() && start_ns < interval->ended_ns;
       ++interval) {
    if (end_ns >= interval->began_ns) return true;
  }
  return false;
}

}  // namespace nopspan::collector
