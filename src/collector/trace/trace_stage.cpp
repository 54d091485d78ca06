// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_stage.h"

namespace nopspan::collector {

TraceStage::TraceStage(const Filter& filter, const TraceStageOptions& options, TraceSink& sink)
    : filter_(filter, options.scope),
      incomplete_(options.incomplete),
      sink_(sink),
      assembler_(
          options.limits, [this](const Entry& entry) { return filter_.mark(entry); },
          [this](const AssembledTrace& trace) { return take(trace); },
          [this](const TraceId& id) { return filter_.may_want(id); }) {}

void TraceStage::on_entry(const Entry& entry) {
  if (!sink_.is_done() && filter_.may_want(entry)) assembler_.add(entry);
}

void TraceStage::on_tick(std::uint64_t now_unix_ns) {
  if (sink_.is_done()) return;
  sink_.on_trace_tick();
  assembler_.tick(now_unix_ns);
}

void TraceStage::finish(const Source& source) {
  if (!sink_.is_done()) assembler_.finish(source.is_cut());
}

bool TraceStage::has_matched() const {
  return counts_.taken + counts_.refused + counts_.incomplete > 0 ||
         (filter_.wants_all() && assembler_.counts().entries > 0);
}

bool TraceStage::take(const AssembledTrace& trace) {
  if (sink_.is_done()) return false;
  if (!filter_.wants(trace)) {
    ++counts_.filtered;
    sink_.on_left_out(trace);
    return false;
  }
  if (!incomplete_) {
    const bool is_partial = trace.before_attach && !trace.earlier_part_was_shown;
    if (is_partial || trace.end == TraceEnd::unfinished) {
      ++counts_.incomplete;
      counts_.partial += is_partial ? 1 : 0;
      sink_.on_left_out(trace);
      return false;
    }
  }
  const bool is_taken = sink_.on_trace(trace);
  ++(is_taken ? counts_.taken : counts_.refused);
  return is_taken;
}

}  // namespace nopspan::collector
