// SPDX-License-Identifier: Apache-2.0
// Decides which traces are wanted. Different spans of a trace may satisfy different conditions of the filter, but each
// condition must be satisfied by some span.
#pragma once

#include "model/filter.h"
#include "trace/trace_assembler.h"

#include <cstdint>

namespace nopspan::collector {

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

  // The filter for the source. By request, sample and duration it removes whole traces only.
  [[nodiscard]] const Filter& for_source() const { return for_source_; }

 private:
  Filter filter_;
  Filter by_request_, by_process_, for_source_;
  std::uint32_t needed_ = 0;
};

}  // namespace nopspan::collector
