// SPDX-License-Identifier: Apache-2.0
// Which traces are wanted: a filter's conditions may be met by different spans of a trace, all of them must be by one.
#pragma once

#include "model/filter.h"
#include "trace/trace_assembler.h"

#include <cstdint>

namespace nopspan::collector {

class TraceFilter {
 public:
  // `early`: the source may leave out any part of a trace in which nothing is wanted.
  explicit TraceFilter(const Filter& filter, bool early = false);

  // What decides for a whole trace by any of its spans: the request's id and the sample.
  [[nodiscard]] bool may_want(const Span& span) const { return by_request_.may_want_request_of(span); }
  [[nodiscard]] bool may_want(const TraceId& id) const { return by_request_.may_want(id); }
  // The conditions that this entry meets, as bits.
  [[nodiscard]] std::uint32_t mark(const Span& span) const;
  // Late parts: also when the earlier one was wanted.
  [[nodiscard]] bool wants(const AssembledTrace& trace) const;

  // What the source may filter by: unless `early`, what leaves out whole traces only.
  [[nodiscard]] const Filter& for_source() const { return for_source_; }

 private:
  Filter filter_;
  Filter by_request_, by_process_, for_source_;
  std::uint32_t needed_ = 0;
};

}  // namespace nopspan::collector
