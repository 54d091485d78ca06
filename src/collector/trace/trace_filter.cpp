// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_filter.h"

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

}  // namespace nopspan::collector
