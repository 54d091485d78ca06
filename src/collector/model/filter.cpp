// SPDX-License-Identifier: Apache-2.0
#include "model/filter.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <string_view>

namespace nopspan::collector {
namespace {

// "/sys/fs/cgroup/system.slice/" and "system.slice" are "/system.slice", as /proc/PID/cgroup has it.
std::string hierarchy_path(std::string_view given) {
  constexpr std::string_view kMount = "/sys/fs/cgroup";
  if (given.starts_with(kMount)) given.remove_prefix(kMount.size());
  while (given.ends_with('/')) given.remove_suffix(1);
  return given.empty() || given.starts_with('/') ? std::string(given) : "/" + std::string(given);
}

bool is_in_cgroup(const Process& process, const std::string& wanted) {
  if (!process.container.empty() && process.container.starts_with(wanted)) return true;
  const std::string path = hierarchy_path(wanted);
  return process.cgroup.starts_with(path) &&
         (process.cgroup.size() == path.size() || path.empty() || process.cgroup[path.size()] == '/');
}

}  // namespace

bool is_sampled(const TraceId& id, std::uint32_t one_in) {
  if (one_in <= 1 || id.empty()) return true;
  std::uint64_t halves[2];
  static_assert(sizeof(halves) == sizeof(id.bytes));
  std::memcpy(halves, id.bytes, sizeof(halves));
  return ((halves[0] ^ halves[1]) * 6364136223846793005U >> 32U) % one_in == 0;
}

bool Filter::empty() const {
  return request.empty() && name.empty() && model.empty() && pids.empty() && cgroup.empty() && slower_than_ns == 0 &&
         !errors && sample_one_in <= 1;
}

bool Filter::may_want(const Span& span) const {
  if (!request.empty() && span.trace_id != trace_id_of(request)) return false;
  if (!is_sampled(span.trace_id, sample_one_in)) return false;
  if (pids.empty() && cgroup.empty()) return true;
  if (span.process == nullptr || *span.process == nullptr) return false;
  const Process& process = **span.process;
  if (!pids.empty() && std::find(pids.begin(), pids.end(), process.pid) == pids.end()) return false;
  return cgroup.empty() || is_in_cgroup(process, cgroup);
}

}  // namespace nopspan::collector
