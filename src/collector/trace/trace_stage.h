// SPDX-License-Identifier: Apache-2.0
// Assembles a source's entries into traces, and passes those that the filter wants on as whole traces.
#pragma once

#include "model/filter.h"
#include "model/source.h"
#include "trace/trace_assembler.h"

#include <cstdint>

namespace nopspan::collector {

// Decides which traces are wanted. Different spans of a trace may satisfy different conditions of the filter, but each
// condition must be satisfied by some span.
class TraceFilter {
 public:
  struct Scope {
    bool with_peers = false;  // wanted traces have the spans of all processes, not only of those that the filter names
    bool early = false;       // the source may drop any part of a trace that has no span of the name, model or status
  };
  TraceFilter(const Filter& filter, Scope scope);

  // Whether the trace may be wanted, by the conditions that any entry can decide for the whole trace: the request's id
  // and the sample.
  [[nodiscard]] bool may_want(const Entry& entry) const { return by_request_.may_want_request_of(entry); }
  [[nodiscard]] bool may_want(const TraceId& id) const { return by_request_.may_want(id); }
  // Returns the conditions that this entry satisfies, as bits.
  [[nodiscard]] std::uint32_t mark(const Entry& entry) const;
  // Whether the trace is wanted. A late part is also wanted if the earlier part was shown.
  [[nodiscard]] bool wants(const AssembledTrace& trace) const;
  // Whether this entry alone shows that its trace is wanted.
  [[nodiscard]] bool wants_trace_of(const Entry& entry) const {
    return (mark(entry) & needed_) == needed_ &&
           (filter_.slower_than_ns == 0 ||
            (entry.kind == Kind::span && entry.parent_id == 0 && entry.duration_ns >= filter_.slower_than_ns));
  }
  // Whether it wants each trace of which it may want an entry.
  [[nodiscard]] bool wants_all() const { return needed_ == 0 && filter_.slower_than_ns == 0; }

  // Whether it chooses requests by their ids or samples. Steps and linked spans pass such a filter, because they may be
  // of any request.
  [[nodiscard]] bool chooses_requests() const { return !by_request_.empty(); }

  // The filter for the source. By request, sample and duration it removes whole traces only.
  [[nodiscard]] const Filter& for_source() const { return for_source_; }

 private:
  Filter filter_;
  Filter by_request_, by_process_, for_source_;
  std::uint32_t needed_ = 0;
};

// Receives whole traces. All calls come from the thread that runs the source.
class TraceSink {
 public:
  virtual ~TraceSink() = default;
  // A wanted trace, valid only during the call. Returns whether it was taken: further parts of it are then wanted too.
  virtual bool on_trace(const AssembledTrace& trace) = 0;
  // A trace that is not wanted, or that is wanted and incomplete, valid only during the call.
  virtual void on_left_out(const AssembledTrace& /*trace*/) {}
  // An entry that belongs to no trace (TraceAssembler::Pass), if wants_others() was true at the beginning. It passed
  // the filter of the source, and the conditions that any entry can decide.
  virtual void on_other(const Entry& /*entry*/) {}
  [[nodiscard]] virtual bool wants_others() const { return false; }
  // If true, it wants no more traces.
  [[nodiscard]] virtual bool is_done() const { return false; }
};

struct TraceStageOptions {
  TraceLimits limits;
  TraceFilter::Scope scope;
  bool incomplete = false;  // also traces that have not ended, or that began before the attach
};

class TraceStage : public Sink {
 public:
  // `sink` must outlive this object.
  TraceStage(const Filter& filter, const TraceStageOptions& options, TraceSink& sink);

  void on_entry(const Entry& entry) override;
  void on_tick(std::uint64_t now_unix_ns) override;
  // Passes the traces on that are still open. Call it when `source` has ended.
  void finish(const Source& source);

  struct Counts {
    std::uint64_t taken = 0, refused = 0;  // by the sink
    std::uint64_t filtered = 0;            // removed by the filter
    std::uint64_t incomplete = 0;          // wanted, but not passed on without `incomplete`
    std::uint64_t partial = 0;             // part of `incomplete`: they began before the attach
  };
  [[nodiscard]] const Counts& counts() const { return counts_; }
  [[nodiscard]] const TraceFilter& filter() const { return filter_; }
  [[nodiscard]] const TraceAssembler& assembler() const { return assembler_; }
  // Whether the filter wanted a trace, or may want one that has not ended.
  [[nodiscard]] bool has_matched() const;

 private:
  bool take(const AssembledTrace& trace);

  TraceFilter filter_;
  const bool incomplete_;
  TraceSink& sink_;
  TraceAssembler assembler_;
  Counts counts_;
};

}  // namespace nopspan::collector
