// SPDX-License-Identifier: Apache-2.0
// Entries arrive from all processes and threads in any order. This assembles them into complete traces. Linked spans
// and steps (steps.h) form no traces of their own, but are added to the traces that they link to, or whose requests are
// their members. docs/trace.md describes the rules.
#pragma once

#include "base/json_writer.h"
#include "model/entry.h"
#include "model/steps.h"
#include "trace/trace.h"
#include "trace/trace_links.h"
#include "trace/trace_steps.h"

#include <nlohmann/json_fwd.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <tuple>

namespace nopspan::collector {

// Learns from complete traces whether the clients of a process are processes that are traced here too.

// A server's span is available as soon as it has ended, but its client's span only when the client has ended. With
// retries that can be much later. Waiting is useful if the client's span will arrive, and only a delay if the clients
// are on other hosts.
class RemoteParents {
 public:
  // Records that a process has spans.
  void saw(const Process& process) {
    if (processes_.size() >= kMaxProcesses) processes_.clear();
    processes_.try_emplace(key_of(process), Clients::unknown);
  }
  // Records whether the remote parent of a span of this process was seen.
  void learn(const Process& process, bool seen) {
    saw(process);
    Clients& clients = processes_[key_of(process)];
    if (seen || clients == Clients::unknown) clients = seen ? Clients::seen : Clients::unseen;
  }
  // Whether to wait for the remote parent of a span of this process. True if nothing is known about the process yet.
  [[nodiscard]] bool may_come(const Process& process) const {
    if (processes_.size() < 2) return false;
    const auto known = processes_.find(key_of(process));
    return known == processes_.end() || known->second != Clients::unseen;
  }

 private:
  static constexpr std::size_t kMaxProcesses = 4096;  // beyond it all are forgotten
  enum class Clients : std::uint8_t { unknown, unseen, seen };

  std::map<ProcessKey, Clients> processes_;
};

struct TraceLimits {
  static constexpr std::size_t kUsualBytes = 64U << 20U, kUsualTraces = 50'000;
  // The limit of open traces if all of them together may have so many bytes.
  static std::size_t traces_for(std::size_t bytes) {
    return kUsualTraces * std::max<std::size_t>(1, bytes / kUsualBytes);
  }
  // A trace must wait at least as long as a thread may hold its entries (--max-age).
  void set_max_age(std::uint64_t max_age_ns) {
    grace_ns = max_age_ns + max_age_ns / 2;
    long_grace_ns = std::max(long_grace_ns, 2 * grace_ns);
  }

  std::size_t bytes = kUsualBytes;    // limit for all open traces together
  std::size_t traces = kUsualTraces;  // limit of open traces
  std::size_t entries_per_trace = 10'000;
  std::size_t bytes_per_trace = 8U << 20U;
  std::size_t linked_kept = 0;      // linked spans of each sum that a trace keeps one by one
  std::size_t remembered = 32'768;  // delivered traces, to recognize late spans
  // A trace whose root span has ended is complete if no entry arrives for this time. It is a little more than the time
  // that a thread may hold entries (--max-age).
  std::uint64_t grace_ns = 1'500'000'000;
  // The longer wait if the root span has a parent in another process that is probably traced too. It
  // is also the time after which a trace is given up if it began before the attach and lacks other spans as well, or if
  // only linked spans have arrived.
  std::uint64_t long_grace_ns = 10'000'000'000;
};

enum class TraceEnd : std::uint8_t {
  finished,
  late,        // spans of a trace that was delivered before
  evicted,     // incomplete, because its memory was needed
  partial,     // its spans have ended, but it began before the attach: spans may be missing
  unfinished,  // incomplete at the end of the source, or its beginning was not recorded
};

// It is always true that entries = outside + duplicates + over_limit + linked + steps + held + assembled. An entry is a
// span, point event, retry or part.
struct TraceCounts {
  std::uint64_t entries = 0;
  std::uint64_t outside = 0;                                                // entries in no request
  std::uint64_t duplicates = 0;                                             // spans that a process emitted twice
  std::uint64_t over_limit = 0;                                             // entries beyond a trace's limit
  std::uint64_t assembled = 0;                                              // entries of delivered traces
  std::uint64_t held = 0;                                                   // entries of open traces
  std::uint64_t late = 0;                                                   // entries of `late_parts`
  std::uint64_t finished = 0, late_parts = 0, evicted = 0, unfinished = 0;  // delivered traces by TraceEnd
  std::uint64_t partial = 0;                                                // likewise
  std::uint64_t hurried = 0;  // part of `finished`: delivered before the grace time was over, because memory was needed
  std::uint64_t conflicts = 0;  // spans of two processes with the same id; both are shown
  std::uint64_t cycles = 0;     // spans that were their own ancestors
  std::uint64_t linked = 0;     // linked spans and their events
  std::uint64_t steps = 0;      // steps that are in no trace, parts of steps, and what is inside steps
  JoinCounts links;
};

// Valid only during the call of `take`.
struct AssembledTrace {
  const Trace& trace;
  const TraceLinks& links;
  TraceEnd end;
  std::uint32_t marks;     // bits of all entries, including those over the limit
  std::size_t over_limit;  // number of entries that were not kept
  std::size_t over_limit_failed;
  bool earlier_part_was_shown;  // for a late part
  // An entry, also one of an earlier part, began before the attach (Entry::before_attach): entries may be missing.
  bool before_attach;
};

// As JSON. docs/trace.md describes the fields.
// {"type": "trace", …, "spans": [{…}, …]}. The spans are a flat list, each after its parent.
void write_json(JsonWriter& json, const AssembledTrace& assembled);
nlohmann::ordered_json to_json(const TraceCounts& counts, const StepCounts& steps);

class TraceAssembler {
 public:
  // Returns bits for an entry. The bits of all entries of a trace are combined in AssembledTrace::marks.
  using Mark = std::function<std::uint32_t(const Entry&)>;
  // Receives a trace. Returns whether the trace was shown.
  using Take = std::function<bool(const AssembledTrace&)>;

  // Whether the filter may want the trace that a linked span links to.
  using Wants = std::function<bool(const TraceId&)>;
  // Receives each entry that belongs to no trace, valid only during the call: gauges, entries outside of requests, and
  // those of TraceCounts::linked and ::steps. Also the steps that are in a trace, which then lack their members.
  using Pass = std::function<void(const Entry&)>;

  TraceAssembler(const TraceLimits& limits, Mark mark, Take take, Wants wants = {}, Pass pass = {});
  ~TraceAssembler();
  TraceAssembler(const TraceAssembler&) = delete;
  TraceAssembler& operator=(const TraceAssembler&) = delete;

  // Adds an entry. Gauges belong to no trace and are not counted.
  void add(const Entry& entry);
  // Delivers the traces that are due. `now_ns` may be of any clock, and the clock may jump.
  void tick(std::uint64_t now_ns);
  // Delivers all open traces, after the last entry. If the source `is_cut`, further entries of them may be missing, so
  // none of them is finished.
  void finish(bool is_cut = false);

  [[nodiscard]] const TraceCounts& counts() const { return counts_; }
  [[nodiscard]] const StepCounts& step_counts() const { return steps_.counts(); }
  // The number of open traces, without those of which only linked spans have arrived.
  [[nodiscard]] std::size_t open_traces() const { return open_ - expected_.size(); }
  [[nodiscard]] std::size_t bytes() const;

 private:
  struct OpenFacts;
  struct Open;
  using List = std::list<Open>;
  struct Known {
    List::iterator open;  // if `is_open`
    bool is_open = false;
    // A part of it was delivered before, and is remembered.
    bool is_remembered = false, was_shown = false, before_attach = false;
  };

  // Adds an open trace to a list, and to what is known of its id.
  List::iterator begin(List& list, const TraceId& id, Known& known);
  List::iterator find_or_begin(const TraceId& id);
  // Null if the trace is not open.
  List::iterator* find_open(const TraceId& id);
  // Valid until the next call.
  const TraceLinks& links_of(const Open& open);
  // Adds a step, a part of one, or what is inside one. Returns whether the entry belongs to no trace.
  bool add_of_step(const Entry& entry);
  void pass(const Entry& entry) {
    if (pass_) pass_(entry);
  }
  // For an entry that was held. Steps without links were passed when they arrived.
  void pass_later(const Entry& entry) {
    if (!is_step(entry) || !entry.links.empty()) pass(entry);
  }
  void absorb(List::iterator open);
  bool has_room(Open& open, const Entry& entry) const;
  void make_room();
  static TraceEnd end_of(const Open& open, const TraceLinks& links);
  void deliver_or_wait(List::iterator open);
  [[nodiscard]] bool parents_may_come(const TraceLinks& links, const Trace& trace) const;
  void deliver(List::iterator open, TraceEnd end);
  void deliver(List::iterator open, TraceEnd end, const TraceLinks& links);
  void erase(List::iterator open);
  void count_bytes(Open& open);
  void restart_grace(List::iterator open);
  void restart_grace_of_linked(const Entry& entry);
  void join_linked_spans(const Open& open, const TraceLinks& links);
  std::uint64_t* join_link(const SpanLink& link, const Entry& entry, std::uint32_t requests, std::uint32_t marks);
  bool make_room_for_linked();
  void learn_parents(const Open& open, const TraceLinks& links);
  void remember(const TraceId& id, bool was_shown, bool before_attach);

  TraceLimits limits_;
  Mark mark_;
  Take take_;
  Wants wants_;
  Pass pass_;
  InternedTexts texts_;
  RemoteParents remote_parents_;
  const Process* last_process_ = nullptr;
  // Open traces, each list sorted by the time of the last entry. They wait for the short grace time (active), for the
  // long one (patient), or for more spans (dormant).
  List active_, patient_, dormant_;
  List expected_;  // traces of which only linked spans have arrived, sorted likewise
  List spare_;     // a few small ones that were delivered, whose memory is used again
  TraceSteps steps_;
  TraceIdTable<Known> known_;  // open and remembered traces
  std::size_t open_ = 0;       // number of open traces
  std::deque<TraceId> remembered_;
  TraceLinks links_;
  std::size_t bytes_ = 0;
  std::uint64_t clock_ns_ = 0;  // advanced by tick(); never goes back
  std::uint64_t last_tick_ns_ = 0;
  TraceCounts counts_;
};

}  // namespace nopspan::collector
