// SPDX-License-Identifier: Apache-2.0
// Spans, as they come from any process and thread in any order, to whole traces.
#pragma once

#include "model/remote_parents.h"
#include "model/span.h"
#include "trace/trace.h"
#include "trace/trace_links.h"

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <unordered_map>
#include <unordered_set>

namespace nopspan::collector {

struct TraceLimits {
  std::size_t bytes = 64U << 20U;  // of all traces that are held
  std::size_t traces = 50'000;     // that are held
  std::size_t entries_per_trace = 10'000;
  std::size_t bytes_per_trace = 8U << 20U;
  std::size_t remembered = 32'768;  // traces that were handed over, so that late spans are known for what they are
  // A trace whose outermost span has ended is whole when nothing came for so long: a little more than threads hold
  // spans back (--max-age).
  std::uint64_t grace_ns = 1'500'000'000;
  // The same where that span has a parent in another process that is probably seen too (remote_parents.h); then also
  // what has no outermost span because that began before the attach is given up.
  std::uint64_t long_grace_ns = 10'000'000'000;
};

enum class TraceEnd : std::uint8_t {
  finished,
  late,        // spans of a trace that was handed over before
  evicted,     // unfinished, and its memory was needed
  unfinished,  // when the source ended, or because its beginning was not recorded
};

// Entries given = outside + duplicates + over_limit + held + handed_over, always. An entry is a span, event or retry.
struct TraceCounts {
  std::uint64_t entries = 0;
  std::uint64_t outside = 0;                                                // in no request
  std::uint64_t duplicates = 0;                                             // spans that a process told of twice
  std::uint64_t over_limit = 0;                                             // of a trace with too many
  std::uint64_t handed_over = 0;                                            // entries of the traces below
  std::uint64_t held = 0;                                                   // of traces that are not over
  std::uint64_t late = 0;                                                   // entries of `late_parts`
  std::uint64_t finished = 0, late_parts = 0, evicted = 0, unfinished = 0;  // traces, by TraceEnd
  std::uint64_t hurried = 0;    // of `finished`: before the grace time was over, because memory was needed
  std::uint64_t conflicts = 0;  // spans of two processes with one id: both are shown
  std::uint64_t circles = 0;    // spans that were their own ancestors
};

// Valid during the call that hands it over.
struct AssembledTrace {
  const Trace& trace;
  const TraceLinks& links;
  TraceEnd end;
  std::uint32_t marks;     // of all entries, those over the limit too
  std::size_t over_limit;  // entries that are not here
  std::size_t over_limit_failed;
  bool earlier_part_was_shown;  // of a late part
};

class TraceAssembler {
 public:
  // What a caller wants to know of a trace is bits that it finds on its entries.
  using Mark = std::function<std::uint32_t(const Span&)>;
  // Returns whether the trace was shown.
  using Take = std::function<bool(const AssembledTrace&)>;

  TraceAssembler(const TraceLimits& limits, Mark mark, Take take);
  ~TraceAssembler();
  TraceAssembler(const TraceAssembler&) = delete;
  TraceAssembler& operator=(const TraceAssembler&) = delete;

  // Gauges are no part of a trace: they are not counted.
  void add(const Span& span);
  // `now_ns` may be of any clock, and jump.
  void tick(std::uint64_t now_ns);
  // There will be no more: hands over everything.
  void finish();

  [[nodiscard]] const TraceCounts& counts() const { return counts_; }
  [[nodiscard]] std::size_t open_traces() const { return open_.size(); }
  [[nodiscard]] std::size_t bytes() const;

 private:
  struct Open;
  using List = std::list<Open>;
  struct HashId {
    std::uint64_t seed;
    std::size_t operator()(const TraceId& id) const;
  };

  List::iterator find_or_begin(const TraceId& id);
  bool has_room(Open& open, const Span& span);
  void make_room();
  void settle(List::iterator open);
  [[nodiscard]] bool parents_may_come(const TraceLinks& links, const Trace& trace) const;
  void hand_over(List::iterator open, TraceEnd end);
  void hand_over(List::iterator open, TraceEnd end, const TraceLinks& links);
  void learn_parents(const Open& open, const TraceLinks& links);
  void remember(const TraceId& id, bool shown);
  void end_all(List& list);

  TraceLimits limits_;
  Mark mark_;
  Take take_;
  InternedTexts texts_;
  RemoteParents remote_parents_;
  const Process* last_process_ = nullptr;
  // Each sorted by when something last came: waiting for the grace time, for the long one, and for more spans.
  List active_, patient_, dormant_;
  std::unordered_map<TraceId, List::iterator, HashId> open_;
  std::unordered_map<TraceId, bool, HashId> remembered_;  // whether it was shown
  std::deque<TraceId> remembered_order_;
  std::size_t bytes_ = 0;
  std::uint64_t clock_ns_ = 0;  // goes on with tick(), and never back
  std::uint64_t last_tick_ns_ = 0;
  TraceCounts counts_;
};

}  // namespace nopspan::collector
