// SPDX-License-Identifier: Apache-2.0
// Which entries of one stream have arrived. The same ones may come several times: a thread's buffer is fetched from it,
// handed over by it later, and read once more when it ends.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

// Sequences from `first` up to, but without, `next`.
struct Sequences {
  std::uint64_t first = 0, next = 0;
  [[nodiscard]] std::uint64_t count() const { return next - first; }
  friend bool operator==(const Sequences&, const Sequences&) = default;
};

class StreamLedger {
 public:
  // Entries before `base` are none of this collector's: they were there before it was.
  explicit StreamLedger(std::uint64_t base = 0) : base_(base), top_(base) {}

  // Notes that these have arrived; tells which of them had not before, in order. What it returns is good until the next
  // call.
  const std::vector<Sequences>& arrive(Sequences sequences);
  // It began earlier than was known.
  void began_at(std::uint64_t first) { base_ = std::min(base_, first); }
  // The stream has emitted all before `next`, whether they arrive or not.
  void emitted_until(std::uint64_t next);

  [[nodiscard]] std::uint64_t base() const { return base_; }
  [[nodiscard]] std::uint64_t next() const { return top_; }
  // All that have been emitted and have not arrived.
  [[nodiscard]] std::uint64_t missing() const { return top_ - base_ - arrived_; }

 private:
  // Beyond, the oldest gap is taken as one for good: what still comes of it is dropped, as it was counted.
  static constexpr std::size_t kMostRanges = 16;

  void insert(Sequences sequences);
  void close_oldest_gap();

  std::uint64_t base_, top_;
  std::uint64_t arrived_ = 0;
  std::vector<Sequences> ranges_;  // that arrived or were given up, in order, apart from each other
  std::vector<Sequences> new_;
};

}  // namespace nopspan::collector
