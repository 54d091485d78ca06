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
  const auto begin = std::find_if(ranges_.begin(), ranges_.end(),
                                  [&](const Sequences& range) { return range.next >= sequences.first; });
  auto end = begin;
  std::uint64_t from = sequences.first;
  for (; end != ranges_.end() && end->first <= sequences.next; ++end) {
    if (from < end->first) new_.push_back({from, end->first});
    from = std::max(from, end->next);
  }
  if (from < sequences.next) new_.push_back({from, sequences.next});
  if (begin != end) sequences = {std::min(sequences.first, begin->first), std::max(sequences.next, from)};
  ranges_.insert(ranges_.erase(begin, end), sequences);
}

void ThreadLedger::close_oldest_gap() {
  ranges_[1].first = ranges_[0].first;
  ranges_.erase(ranges_.begin());
}

}  // namespace nopspan::collector
