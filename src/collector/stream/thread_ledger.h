// SPDX-License-Identifier: Apache-2.0
// Records which entries of one thread have arrived. The same entry may arrive up to three times: fetched from the
// thread's buffer, flushed by the thread, and read once more when the thread ends. It needs C++17 only, because the
// library nopspan::recording uses it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

// The sequences from `first` up to and excluding `next`.
struct Sequences {
  std::uint64_t first = 0, next = 0;
  [[nodiscard]] std::uint64_t count() const { return next - first; }
  friend bool operator==(const Sequences& a, const Sequences& b) { return a.first == b.first && a.next == b.next; }
};

class ThreadLedger {
 public:
  // Entries before `base` are not counted, because they were emitted before this collector began.
  explicit ThreadLedger(std::uint64_t base = 0) : base_(base), top_(base) {}

  // Records that these entries have arrived. Returns those that had not arrived before, in order. The result is valid
  // until the next call.
  const std::vector<Sequences>& arrive(Sequences sequences) {
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
  // The thread began earlier than was known.
  void began_at(std::uint64_t first) { base_ = std::min(base_, first); }
  // The thread has emitted all entries before `next`, whether or not they arrive.
  void emitted_until(std::uint64_t next) { top_ = std::max(top_, next); }

  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint64_t next() const { return top_; }
  // The number of entries that were emitted and have not arrived.
  [[nodiscard]] std::uint64_t missing() const { return top_ - base_ - arrived_; }

 private:
  // Beyond this number the oldest gap becomes permanent. Its entries count as missing and are ignored if they arrive
  // later.
  static constexpr std::size_t kMostRanges = 16;

  void insert(Sequences sequences) {
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
  void close_oldest_gap() {
    ranges_[1].first = ranges_[0].first;
    ranges_.erase(ranges_.begin());
  }

  std::uint64_t base_, top_;
  std::uint64_t arrived_ = 0;
  std::vector<Sequences> ranges_;  // that arrived or were given up, in order and disjoint
  std::vector<Sequences> new_;
};

}  // namespace nopspan::collector
