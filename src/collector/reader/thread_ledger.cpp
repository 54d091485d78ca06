// SPDX-License-Identifier: Apache-2.0
#include "reader/thread_ledger.h"

#include <algorithm>

namespace nopspan::collector {

void ThreadLedger::emitted_until(std::uint64_t next) { top_ = std::max(top_, next); }

const std::vector<Sequences>& ThreadLedger::arrive(Sequences sequences) {
  new_.clear();
  sequences.first = std::max(sequences.first, base_);
  if (sequences.first >= sequences.next) return new_;
  emitted_until(sequences.next);
  // Fast path: nearly all entries arrive in order.
  if (ranges_.empty() || sequences.first > ranges_.back().next) {
    ranges_.push_back(sequences);
    new_.push_back(sequences);
  } else if (sequences.first == ranges_.back().next) {
    ranges_.back().next = sequences.next;
    new_.push_back(sequences);
  } else {
    insert(sequences);
  }
  for (const Sequences& part : new_) arrived_ += part.count();
  if (ranges_.size() > kMostRanges) close_oldest_gap();
  return new_;
}

void ThreadLedger::insert(Sequences sequences) {
  std::vector<Sequences> merged;
  std::uint64_t from = sequences.first;
  for (const Sequences& range : ranges_) {
    if (range.next < sequences.first || range.first > sequences.next) continue;
    if (from < range.first) new_.push_back({from, range.first});
    from = std::max(from, range.next);
  }
  if (from < sequences.next) new_.push_back({from, sequences.next});
  for (const Sequences& range : ranges_) {
    if (range.next < sequences.first || range.first > sequences.next) {
      merged.push_back(range);
    } else {
      sequences = {std::min(sequences.first, range.first), std::max(sequences.next, range.next)};
    }
  }
  merged.insert(std::upper_bound(merged.begin(), merged.end(), sequences,
                                 [](const Sequences& a, const Sequences& b) { return a.first < b.first; }),
                sequences);
  ranges_ = std::move(merged);
}

void ThreadLedger::close_oldest_gap() {
  ranges_[1].first = ranges_[0].first;
  ranges_.erase(ranges_.begin());
}

}  // namespace nopspan::collector
