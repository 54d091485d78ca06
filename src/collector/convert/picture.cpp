// SPDX-License-Identifier: Apache-2.0
#include "convert/picture.h"

#include "base/saturating.h"
#include "model/steps.h"

namespace nopspan::collector {

std::uint64_t SpanKeys::process(const ProcessPointer& process) {
  if (last_ != process) {
    const auto key = std::tuple(process->host, process->boot_id, key_of(*process));
    last_number_ = processes_.try_emplace(key, processes_.size() + 1).first->second;
    last_ = process;
  }
  return last_number_;
}

void StepFlows::see(const Entry& entry) {
  if (flows_ == Flows::none) return;
  const std::uint64_t end = saturating_sum(entry.start_unix_ns, entry.duration_ns);
  for_each_member(entry.members, [&](const nopspan_member& member) {
    if (named_by(member) != NamedBy::span) return;
    const Key key = keys_.of(entry, member.request);
    auto found = requests_.find(key);
    if (found == requests_.end()) {
      is_full_ = is_full_ || requests_.size() >= most_;
      if (requests_.size() >= most_) return;
      found = requests_.try_emplace(key).first;
      found->second.number = next_++;
      found->second.is_shown = shows_all_;
    }
    Request& request = found->second;
    if (entry.start_unix_ns < request.first_ns) {
      request.first_ns = entry.start_unix_ns;
      request.first = entry.span_id;
    }
    // A flow is at the begin of a slice, so it ends at the step that begins last.
    if (entry.start_unix_ns >= request.last_ns) {
      request.last_ns = entry.start_unix_ns;
      request.last = entry.span_id;
    }
    if (end <= request.end_ns) return;
    if (const std::uint64_t gap_ns = end - request.end_ns; request.end_ns != 0 && gap_ns > request.longest_ns) {
      request.longest_ns = gap_ns;
      request.longest = entry.span_id;
    }
    request.end_ns = end;
  });
}

std::optional<StepFlows::Key> StepFlows::find(const Entry& entry) {
  const Key key = keys_.of(entry, entry.span_id);
  if (entry.kind != Kind::span || !requests_.contains(key)) return {};
  return key;
}

void StepFlows::show(const Key& request) {
  if (const auto found = requests_.find(request); found != requests_.end()) found->second.is_shown = true;
}

std::optional<std::uint32_t> StepFlows::number_of(const Key& request) const {
  const auto found = requests_.find(request);
  if (found == requests_.end() || !found->second.is_shown) return {};
  return found->second.number;
}

std::optional<std::uint32_t> StepFlows::number_of(const Entry& step, const nopspan_member& member) {
  if (named_by(member) != NamedBy::span) return {};
  return number_of(keys_.of(step, member.request));
}

std::uint64_t StepFlows::flow_from(const Entry& entry) {
  const auto key = find(entry);
  return key && requests_.at(*key).is_shown ? flow_of(*key) : 0;
}

bool StepFlows::stops_at(const nopspan_member& member, const Key& key, std::uint64_t step_id) const {
  if (named_by(member) != NamedBy::span) return false;
  const auto found = requests_.find(key);
  if (found == requests_.end() || !found->second.is_shown) return false;
  const Request& request = found->second;
  return flows_ == Flows::all || step_id == request.first || step_id == request.longest || step_id == request.last;
}

}  // namespace nopspan::collector
