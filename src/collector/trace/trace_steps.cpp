// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_steps.h"

#include "facts/row_key.h"

#include <algorithm>
#include <iterator>

namespace nopspan::collector {
namespace {

constexpr std::size_t kMostRows = 64;  // the step, and spans inside it that are remembered for parts that arrive later
constexpr std::size_t kMostKept = 65'536;  // members of a step that are remembered for spans inside it
constexpr std::size_t kMostSums = 16;      // of one request
constexpr std::size_t kNodeBytes = 128;    // an estimate of the nodes of a list and a map, and malloc's overhead

JoinCounts& counts_of(StepCounts& counts, bool is_step) { return is_step ? counts.members : counts.inside; }

void add_over_limit(JoinCounts& counts, std::uint64_t members) {
  counts.all += members;
  counts.over_limit += members;
}

}  // namespace

bool TraceSteps::add_step(const Entry& entry, std::uint32_t marks, std::uint64_t now_ns) {
  const Key key{number_of(**entry.process), entry.span_id};
  if (by_span_.contains(key)) return false;
  ++counts_.all;
  Step& step = steps_.emplace_back();
  step.key = key;
  step.id = entry.trace_id;
  step.arrived_ns = now_ns;
  if (entry.step != nullptr) {
    step.announced = std::max<std::uint64_t>(entry.step->members, members_of(entry));
    counts_.dropped += entry.step->dropped;
  }
  by_span_[key] = std::prev(steps_.end());
  if (entry.parent_id == 0 && !entry.trace_id.empty()) roots_.insert(entry.trace_id) = std::prev(steps_.end());
  step.is_shown = add_row(step, entry, marks, true);
  take_members(step, entry.members);
  count_bytes(step);
  return true;
}

void TraceSteps::add_part(const Entry& entry) {
  const auto found = by_span_.find({number_of(**entry.process), entry.span_id});
  const std::uint64_t members = members_of(entry);
  if (found == by_span_.end() || entry.number < found->second->next || entry.number > found->second->announced ||
      members > found->second->announced - entry.number) {
    counts_.stray += members;
    return;
  }
  Step& step = *found->second;
  step.next = entry.number;
  take_members(step, entry.members);
  count_bytes(step);
}

void TraceSteps::take_members(Step& step, std::string_view members) {
  const std::size_t count = members.size() / sizeof(nopspan_member);
  const std::size_t most_kept = std::min(kMostKept, most_bytes_ / 4 / sizeof(nopspan_member)) * sizeof(nopspan_member);
  const std::string_view kept = members.substr(0, most_kept - step.members.size());
  for_each_member(members, [&step](const nopspan_member& member) {
    if (member.prefill_tokens > step.most.prefill_tokens) step.most = member;
  });
  if (!step.is_shown) add_over_limit(counts_.members, count);
  for (const Row& row : step.rows) {
    join(step, row, row.is_step ? members : kept);
    if (!row.is_step) add_over_limit(counts_.inside, count - kept.size() / sizeof(nopspan_member));
  }
  step.next += count;
  step.received += count;
  step.members += kept;
}

bool TraceSteps::is_inside(const Entry& entry) {
  const auto* const root = steps_.empty() ? nullptr : roots_.find(entry.trace_id);
  if (root == nullptr) return false;
  const Step& step = **root;
  const std::uint64_t process = number_of(**entry.process);
  if (process == step.key.process) return true;
  const bool is_span = entry.kind == Kind::span;
  const bool is_remote = is_span && (entry.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
  return std::any_of(step.rows.begin(), step.rows.end(), [&](const Row& row) {
    return row.span.span_id == (is_span ? entry.parent_id : entry.span_id) &&
           (is_remote || number_of(*row.process) == process);
  });
}

void TraceSteps::add_inside(const Entry& entry, std::uint32_t marks) {
  if (entry.kind != Kind::span) return;
  Step& step = **roots_.find(entry.trace_id);
  std::uint64_t joined = 0;
  if (add_row(step, entry, marks, false)) {
    join(step, step.rows.back(), step.members);
    joined = step.members.size() / sizeof(nopspan_member);
  }
  add_over_limit(counts_.inside, step.received - joined);
  count_bytes(step);
}

bool TraceSteps::add_row(Step& step, const Entry& entry, std::uint32_t marks, bool is_step) {
  const std::uint32_t name = texts_.intern(entry.name);
  if (name == InternedTexts::kRefused || step.rows.size() >= kMostRows) return false;
  LinkedSpan span{
      entry.trace_id, entry.span_id, entry.start_unix_ns, entry.duration_ns, static_cast<std::uint32_t>(step.announced),
      entry.status};
  if (entry.step != nullptr) {
    span.number = entry.step->number;
    span.instance = entry.step->instance;
    span.prefill_tokens = entry.step->prefill_tokens;
  }
  step.rows.push_back({name, marks, span, *entry.process, is_step});
  return true;
}

void TraceSteps::join(Step& step, const Row& row, std::string_view members) {
  for_each_member(members, [&](const nopspan_member& member) {
    ++counts_of(counts_, row.is_step).all;
    const NamedBy by = named_by(member);
    const Key key{by == NamedBy::trace ? 0 : step.key.process, member.request, by};
    ++*join(step, request_of(key, step.key.process), row, member);
    make_room();
  });
}

// Returns the counter of the member's outcome.
std::uint64_t* TraceSteps::join(const Step& step, Request& request, const Row& row, const nopspan_member& member) {
  JoinCounts& counts = counts_of(counts_, row.is_step);
  if (request.is_delivered) return &counts.late;
  auto& sums = request.sums;
  auto found = std::find_if(sums.begin(), sums.end(), [&](const auto& sum) {
    return sum.first->name == row.name && sum.first->is_of_steps == row.is_step && sum.second == row.process;
  });
  std::size_t grown = 0;
  if (found == sums.end()) {
    if (sums.size() >= kMostSums) return &counts.over_limit;
    found = sums.insert(sums.end(), {std::make_unique<LinkedSpans>(), row.process});
    if (request.key.by == NamedBy::span) found->first->linked_id = request.key.id;
    found->first->name = row.name;
    found->first->is_of_steps = row.is_step;
    grown = sizeof(LinkedSpans) + 2 * sizeof(sums[0]);
  }
  LinkedSpans& sum = *found->first;
  // A step may have a request several times, for example a member for each sequence of a search.
  if (sum.members == 0 || sum.last_id != row.span.span_id) grown += sum.add(row.span, linked_kept_);
  sum.last_id = row.span.span_id;
  ++sum.members;
  if (row.is_step) {
    sum.tokens.add(member);
    note_longest(step, row, member, sum.longest);
  }
  request.marks |= row.marks;
  count(request, grown);
  return &counts.held;
}

void TraceSteps::note_longest(const Step& step, const Row& row, const nopspan_member& member, LongestStep& longest) {
  if (longest.step.span_id != row.span.span_id) {
    if (row.span.duration_ns <= longest.step.duration_ns) return;
    longest = {};
    longest.step = row.span;
  }
  longest.own_prefill_tokens += member.prefill_tokens;
  longest.most_prefill_tokens = step.most.prefill_tokens;
  longest.most_id = step.most.flags == 0 ? step.most.request : 0;
}

TraceSteps::Request& TraceSteps::request_of(const Key& key, std::uint64_t process) {
  if (const auto known = by_key_.find(key); known != by_key_.end()) {
    Requests& requests = owners_.find(known->second->owner)->second.requests;
    requests.splice(requests.end(), requests, known->second);
    return *known->second;
  }
  Requests& requests = owners_[process].requests;
  Request& request = requests.emplace_back();
  request.key = key;
  request.owner = process;
  by_key_.emplace(key, std::prev(requests.end()));
  count(request, sizeof(Request) + kNodeBytes);
  return request;
}

// `bytes` are added, or removed if they are negative.
void TraceSteps::count(Request& request, std::size_t bytes) {
  if (bytes == 0) return;
  Owner& owner = owners_.find(request.owner)->second;
  most_.erase({owner.bytes, request.owner});
  request.bytes += bytes;
  request_bytes_ += bytes;
  owner.bytes += bytes;
  most_.insert({owner.bytes, request.owner});
}

// The process whose requests have the most memory makes room.
void TraceSteps::make_room() {
  while (request_bytes_ > most_bytes_ / 2 && !most_.empty()) forget_oldest(most_.rbegin()->second);
}

void TraceSteps::forget_oldest(std::uint64_t process) {
  const auto found = owners_.find(process);
  Owner& owner = found->second;
  const Request& request = owner.requests.front();
  most_.erase({owner.bytes, process});
  end(request);
  request_bytes_ -= request.bytes;
  owner.bytes -= request.bytes;
  by_key_.erase(request.key);
  owner.requests.pop_front();
  if (owner.requests.empty()) {
    owners_.erase(found);
  } else {
    most_.insert({owner.bytes, process});
  }
}

// A request that nobody claims.
void TraceSteps::end(const Request& request) {
  if (request.is_delivered) return;
  for (const auto& [sum, process] : request.sums) {
    JoinCounts& counts = counts_of(counts_, sum->is_of_steps);
    counts.held -= sum->members;
    counts.unknown += sum->members;
  }
  ++(request.key.by == NamedBy::own_key ? counts_.by_own_key
     : request.key.by == NamedBy::trace ? counts_.by_trace_id
                                        : counts_.not_ended);
}

void TraceSteps::note_request(const Entry& entry) {
  const auto found = by_key_.find({number_of(**entry.process), entry.span_id});
  if (found == by_key_.end()) return;
  Request& request = *found->second;
  const std::size_t before = request.id.size() + request.tenant.size();
  request.id = request_id_of(entry);
  request.tenant = entry.tenant;
  count(request, request.id.size() + request.tenant.size() - before);
}

std::uint32_t TraceSteps::claim(const PackedEntry& span, Trace& trace) {
  const Key key{number_of(*trace.processes()[span.process]), span.span_id};
  const auto found = by_key_.find(key);
  if (found == by_key_.end()) {
    // A step of this request that arrives later is late.
    if (owners_.contains(key.process) && trace.text(span.name) == kRequestName) {
      request_of(key, key.process).is_delivered = true;
      make_room();
    }
    return 0;
  }
  return claim(*found->second, trace);
}

std::uint32_t TraceSteps::claim(Trace& trace) {
  const Key key{0, member_key_of(trace.id()), NamedBy::trace};
  const auto found = by_key_.find(key);
  return found == by_key_.end() ? 0 : claim(*found->second, trace);
}

std::uint32_t TraceSteps::claim(Request& request, Trace& trace) {
  for (auto& [sum, process] : request.sums) {
    JoinCounts& counts = counts_of(counts_, sum->is_of_steps);
    const std::uint64_t members = sum->members;
    counts.held -= members;
    const auto most = by_key_.find({number_of(*process), sum->longest.most_id});
    if (sum->longest.most_id != 0 && most != by_key_.end()) {
      sum->longest.most_request = most->second->id;
      sum->longest.most_tenant = most->second->tenant;
    }
    (trace.adopt(std::move(sum), process) ? counts.joined : counts.over_limit) += members;
  }
  request.sums.clear();
  request.sums.shrink_to_fit();
  request.is_delivered = true;
  count(request, sizeof(Request) + kNodeBytes + request.id.size() + request.tenant.size() - request.bytes);
  return request.marks;
}

void TraceSteps::count_bytes(Step& step) {
  const std::size_t bytes =
      sizeof(Step) + 2 * kNodeBytes + step.members.capacity() + step.rows.capacity() * sizeof(Row);
  step_bytes_ += bytes - step.bytes;
  step.bytes = bytes;
}

// The newest stays, because its parts follow.
void TraceSteps::forget_beyond_limit() {
  while (step_bytes_ > most_bytes_ / 2 && steps_.size() > 1) forget(steps_.begin());
}

void TraceSteps::forget(Steps::iterator step) {
  counts_.missing += step->announced - step->received;
  by_span_.erase(step->key);
  if (const auto* root = roots_.find(step->id); root != nullptr && *root == step) roots_.erase(step->id);
  step_bytes_ -= step->bytes;
  steps_.erase(step);
}

void TraceSteps::forget_before(std::uint64_t time_ns) {
  while (!steps_.empty() && steps_.front().arrived_ns < time_ns) forget(steps_.begin());
}

void TraceSteps::finish() {
  while (!steps_.empty()) forget(steps_.begin());
  for (const auto& owner : owners_) {
    for (const Request& request : owner.second.requests) end(request);
  }
  owners_.clear();
  most_.clear();
  by_key_.clear();
  request_bytes_ = 0;
}

}  // namespace nopspan::collector
