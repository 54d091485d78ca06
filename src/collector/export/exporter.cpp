// SPDX-License-Identifier: Apache-2.0
#include "export/exporter.h"

#include "model/steps.h"

#include <algorithm>
#include <cstddef>
#include <unordered_map>

namespace nopspan::collector {

bool Exporter::needs_traces(const Filter& filter) {
  Filter rest = filter;  // without what each entry shows
  rest.request.clear();
  rest.pids.clear();
  rest.cgroup.clear();
  rest.sample_one_in = 1;
  rest.sampled_only = false;
  return !rest.empty();
}

Exporter::Exporter(const Filter& filter, const TraceStageOptions& options, Signals signals)
    : filter_(filter), signals_(signals), mark_(filter.sample_one_in, filter.sampled_only) {
  if (needs_traces(filter)) stage_.emplace(filter, options, static_cast<TraceSink&>(*this));
}

// The request may be wanted for --request, --sample and --sampled-only. A step with members is wanted if it serves a
// wanted request. Requests from which nothing has arrived yet are not known.
bool Exporter::wants_request_of(const Entry& entry) {
  if (filter_.request.empty() && filter_.sample_one_in <= 1 && !filter_.sampled_only) return true;
  if (entry.members.empty()) {
    const bool is_wanted = filter_.may_want_request_of(entry);
    if (is_wanted) traces_.add(entry);
    return is_wanted;
  }
  bool is_wanted = filter_.may_want_own_request_of(entry);
  for_each_member(entry.members, [&](const nopspan_member& member) { is_wanted |= !traces_.trace_of(member).empty(); });
  return is_wanted;
}

void Exporter::pass(const Entry& entry) {
  const ItemCounts items = items_of(entry);
  if (!is_measured(entry) && !(items.logs > 0 ? signals_.logs : signals_.traces)) return leave_out(items);
  if (!ExportEncoder::is_encodable(entry)) return drop(items, DropReason::not_encodable);
  const Entry& marked = mark_.marked(entry);
  for (const auto& receiver : receivers_) receiver->add(marked);
}

void Exporter::leave_out(const ItemCounts& items) {
  for (const auto& receiver : receivers_) receiver->account().add(items, &SignalAccount::left_out);
}

void Exporter::drop(const ItemCounts& items, DropReason reason) {
  for (const auto& receiver : receivers_) receiver->account().drop_new(items, reason);
}

void Exporter::stage(const Entry& entry) {
  const ItemCounts items = items_of(entry);
  const std::uint64_t before = stage_->assembler().counts().over_limit;
  staged_ += items;
  stage_->on_entry(entry);
  // Other traces may end during the call, but only this entry can be over a limit.
  if (stage_->assembler().counts().over_limit != before) over_limit_[std::to_array(entry.trace_id.bytes)] += items;
}

ItemCounts Exporter::take_over_limit(const TraceId& id) {
  const auto found = over_limit_.extract(std::to_array(id.bytes));
  if (found.empty()) return {};
  staged_ -= found.mapped();
  return found.mapped();
}

void Exporter::on_entry(const Entry& entry) {
  if (is_measured(entry)) {
    pass(entry);
  } else if (!wants_request_of(entry) || !filter_.is_in_scope(entry)) {
    leave_out(items_of(entry));
  } else if (stage_) {
    stage(entry);
  } else {
    has_matched_ = has_matched_ || filter_.may_want_own_request_of(entry);
    pass(entry);
  }
}

void Exporter::on_tick(std::uint64_t now_unix_ns) {
  if (stage_) stage_->on_tick(now_unix_ns);
  for (const auto& receiver : receivers_) receiver->on_tick(now_unix_ns);
}

// An event may have arrived after its span. A receiver must get it before the span, otherwise it becomes a log record.
// The filter saw only what this host has of the request. Where a remote parent is missing, another host may have left
// its part out. If an earlier part of the request was passed on, the parent may be in it.
bool Exporter::on_trace(const AssembledTrace& assembled) {
  assembled.trace.entries(entries_);
  std::unordered_map<std::uint64_t, std::size_t> places;  // of spans, by id
  for (const PackedEntry* packed : entries_) {
    if (packed->is_span()) places.try_emplace(packed->span_id, places.size());
  }
  const auto place_of = [&](const PackedEntry* packed) {
    const auto found = places.find(packed->span_id);
    return std::pair(found == places.end() ? places.size() : found->second, packed->is_span());
  };
  std::stable_sort(entries_.begin(), entries_.end(),
                   [&](const PackedEntry* a, const PackedEntry* b) { return place_of(a) < place_of(b); });
  std::vector<const PackedEntry*> partial;
  if (assembled.links.has_root(RootKind::remote) && !assembled.earlier_part_was_shown) {
    for (const TraceLinks::Node& node : assembled.links.nodes()) {
      if (node.root == RootKind::remote) partial.push_back(node.entry);
    }
    std::sort(partial.begin(), partial.end());
  }
  for (const PackedEntry* packed : entries_) {
    Entry entry = assembled.trace.view(*packed);
    if (std::binary_search(partial.begin(), partial.end(), packed)) entry.flags |= kPartialEntry;
    staged_ -= items_of(entry);
    pass(entry);
  }
  drop(take_over_limit(assembled.trace.id()), DropReason::request_too_large);
  return true;
}

void Exporter::on_left_out(const AssembledTrace& assembled) {
  assembled.trace.entries(entries_);
  ItemCounts items;
  for (const PackedEntry* packed : entries_) items += items_of(assembled.trace.view(*packed));
  staged_ -= items;
  items += take_over_limit(assembled.trace.id());
  // Its other spans may be those for which the request is wanted.
  if (assembled.end == TraceEnd::evicted) return drop(items, DropReason::memory_full);
  leave_out(items);
}

void Exporter::finish(const Source& source, std::chrono::nanoseconds time) {
  if (stage_) {
    stage_->finish(source);
    for (const auto& one : over_limit_) {  // of the last entry of a trace that had been passed on
      staged_ -= one.second;
      drop(one.second, DropReason::request_too_large);
    }
    leave_out(std::exchange(staged_, {}));  // outside requests, or in steps
  }
  for (const auto& receiver : receivers_) receiver->finish(time);
}

bool Exporter::surely_exports(const Entry& entry) const {
  return filter_.may_want(entry) && (!stage_ || stage_->filter().wants_trace_of(entry));
}

}  // namespace nopspan::collector
