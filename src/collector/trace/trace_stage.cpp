// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_stage.h"

#include <utility>

namespace nopspan::collector {
namespace {

constexpr std::uint32_t kName = 1, kModel = 2, kProcess = 4, kFailed = 8, kTenant = 16, kErrorType = 32;
// The first bit of --where. Each of its conditions has a bit.
constexpr std::uint32_t kWhere = 1U << 16U;
static_assert(Filter::kMostConditions <= 16);

}  // namespace

TraceFilter::TraceFilter(const Filter& filter, Scope scope) : filter_(filter), for_source_(filter) {
  by_request_.request = filter.request;
  by_request_.sample_one_in = filter.sample_one_in;
  by_request_.sampled_only = filter.sampled_only;
  // The source does not apply these.
  for_source_.tenant.clear();
  for_source_.where.clear();
  // Otherwise everything that the source delivers comes from a wanted process.
  if (scope.with_peers) {
    by_process_.pids = std::exchange(for_source_.pids, {});
    by_process_.cgroup = std::exchange(for_source_.cgroup, {});
  }
  // The kernel sees one batch of one thread. The id, the sample and the duration of the root span decide for the whole
  // request. If a batch has no error, or no span of the name or model, other threads of the request may still have one.
  if (!scope.early) {
    for_source_.name.clear();
    for_source_.model.clear();
    for_source_.errors = false;
    for_source_.error_type.clear();
  }
  if (!filter.name.empty()) needed_ |= kName;
  if (!filter.model.empty()) needed_ |= kModel;
  if (!by_process_.empty()) needed_ |= kProcess;
  if (filter.errors) needed_ |= kFailed;
  if (!filter.tenant.empty()) needed_ |= kTenant;
  if (!filter.error_type.empty()) needed_ |= kErrorType;
  for (std::size_t i = 0; i < filter.where.size(); ++i) needed_ |= kWhere << i;
}

std::uint32_t TraceFilter::mark(const Entry& entry) const {
  std::uint32_t marks = 0;
  if ((needed_ & kProcess) != 0 && by_process_.is_in_scope(entry)) marks |= kProcess;
  if (entry.kind != Kind::span) return marks;
  if ((needed_ & kName) != 0 && filter_.has_name(entry)) marks |= kName;
  if ((needed_ & kModel) != 0 && filter_.has_model(entry)) marks |= kModel;
  if (entry.failed()) marks |= kFailed;
  if ((needed_ & kTenant) != 0 && filter_.has_tenant(entry)) marks |= kTenant;
  if ((needed_ & kErrorType) != 0 && filter_.has_error_type(entry)) marks |= kErrorType;
  for (std::size_t i = 0; i < filter_.where.size(); ++i) {
    if (Filter::has_value(entry, filter_.where[i])) marks |= kWhere << i;
  }
  return marks;
}

bool TraceFilter::wants(const AssembledTrace& trace) const {
  if (trace.earlier_part_was_shown) return true;
  return (trace.marks & needed_) == needed_ && trace.links.longest_root_ns() >= filter_.slower_than_ns;
}

TraceStage::TraceStage(const Filter& filter, const TraceStageOptions& options, TraceSink& sink)
    : filter_(filter, options.scope),
      incomplete_(options.incomplete),
      sink_(sink),
      assembler_(
          options.limits, [this](const Entry& entry) { return filter_.mark(entry); },
          [this](const AssembledTrace& trace) { return take(trace); },
          [this](const TraceId& id) { return filter_.may_want(id); },
          sink.wants_others() ? TraceAssembler::Pass([&sink](const Entry& entry) { sink.on_other(entry); })
                              : TraceAssembler::Pass()) {}

void TraceStage::on_entry(const Entry& entry) {
  if (!sink_.is_done() && filter_.may_want(entry)) assembler_.add(entry);
}

void TraceStage::on_tick(std::uint64_t now_unix_ns) {
  if (!sink_.is_done()) assembler_.tick(now_unix_ns);
}

void TraceStage::finish(const Source& source) {
  if (!sink_.is_done()) assembler_.finish(source.is_cut());
}

bool TraceStage::has_matched() const {
  if (counts_.taken + counts_.refused + counts_.incomplete > 0) return true;
  return filter_.wants_all() &&
         (filter_.chooses_requests() ? assembler_.open_traces() : assembler_.counts().entries) > 0;
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
