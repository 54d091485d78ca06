// SPDX-License-Identifier: Apache-2.0
// Spans, as they come from any process and thread in any order, to whole traces. Shared spans (span_links.h) are no
// traces of their own: they are added to those that they link to.
#pragma once

#include "model/remote_parents.h"
#include "model/span.h"
#include "model/span_links.h"
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
  std::size_t shared_kept = 0;      // shared spans of each kind that a trace keeps one by one
  std::size_t remembered = 32'768;  // traces that were handed over, so that late spans are known for what they are
  // A trace whose outermost span has ended is whole when nothing came for so long: a little more than threads hold
  // spans back (--max-age).
  std::uint64_t grace_ns = 1'500'000'000;
  // The same where that span has a parent in another process that is probably seen too (remote_parents.h). Then also
  // what began before the attach and lacks more than that is given up, and what is only known by its shared spans.
  std::uint64_t long_grace_ns = 10'000'000'000;
};

enum class TraceEnd : std::uint8_t {
  finished,
  late,        // spans of a trace that was handed over before
  evicted,     // unfinished, and its memory was needed
  unfinished,  // when the source ended, or because its beginning was not recorded
};

// Entries given = outside + duplicates + over_limit + shared + held + handed_over, always. An entry is a span, event or
// retry. Links of shared spans = joined + late + unknown + unwanted + over_limit + held.
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
  std::uint64_t shared = 0;     // entries of shared spans, which are no traces of their own
  struct Links {
    std::uint64_t all = 0;
    std::uint64_t joined = 0;      // to traces that were handed over with them
    std::uint64_t late = 0;        // to traces that had been handed over before
    std::uint64_t unknown = 0;     // to traces of which nothing came
    std::uint64_t unwanted = 0;    // to traces that nobody wants
    std::uint64_t over_limit = 0;  // for want of memory, or of too many kinds
    std::uint64_t held = 0;        // to traces that are not over
  } links;
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

  // Whether a trace that a shared span links to is wanted at all.
  using Wants = std::function<bool(const TraceId&)>;

  TraceAssembler(const TraceLimits& limits, Mark mark, Take take, Wants wants = {});
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
  // Those of which there are shared spans alone are none.
  [[nodiscard]] std::size_t open_traces() const { return open_.size() - expected_.size(); }
  [[nodiscard]] std::size_t bytes() const;

 private:
  struct Open;
  using List = std::list<Open>;
  struct HashId {
    std::uint64_t seed;
    std::size_t operator()(const TraceId& id) const;
  };

  List::iterator find_or_begin(const TraceId& id);
  bool has_room(Open& open, const Span& span) const;
  void make_room();
  static TraceEnd end_of(const Open& open, const TraceLinks& links);
  void settle(List::iterator open);
  [[nodiscard]] bool parents_may_come(const TraceLinks& links, const Trace& trace) const;
  void hand_over(List::iterator open, TraceEnd end);
  void hand_over(List::iterator open, TraceEnd end, const TraceLinks& links);
  void forget(List::iterator open);
  void count_bytes(Open& open);
  void stir(List::iterator open);
  void stir_linked(const Span& span);
  void share(const Open& open, const TraceLinks& links);
  std::uint64_t* share_with(const SpanLink& link, const Span& span, std::uint32_t requests, std::uint32_t marks);
  List::iterator expect(const TraceId& id);
  bool make_room_for_shared();
  void learn_parents(const Open& open, const TraceLinks& links);
  void remember(const TraceId& id, bool shown);
  void end_all(List& list);

  TraceLimits limits_;
  Mark mark_;
  Take take_;
  Wants wants_;
  InternedTexts texts_;
  RemoteParents remote_parents_;
  const Process* last_process_ = nullptr;
  // Each sorted by when something last came: waiting for the grace time, for the long one, and for more spans.
  List active_, patient_, dormant_;
  List expected_;  // of which there are shared spans alone, sorted by when one last came
  std::unordered_map<TraceId, List::iterator, HashId> open_;
  std::unordered_map<TraceId, bool, HashId> remembered_;  // whether it was shown
  std::deque<TraceId> remembered_order_;
  std::size_t bytes_ = 0;
  std::uint64_t clock_ns_ = 0;  // goes on with tick(), and never back
  std::uint64_t last_tick_ns_ = 0;
  TraceCounts counts_;
};

}  // namespace nopspan::collector
