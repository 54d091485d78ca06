// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_assembler.h"

#include <nopspan_probes.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <random>
#include <utility>

namespace nopspan::collector {

// A trace that is not over yet.
struct TraceAssembler::Open {
  Open(const TraceId& id, InternedTexts& texts) : trace(id, texts) {}

  Trace trace;
  List* list = nullptr;              // that it is in
  std::uint64_t quiet_since_ns = 0;  // of clock_ns_; not yet known while `fresh`
  bool fresh = true;                 // something came since the last tick
  bool has_root = false, has_remote = false, has_orphan = false;
  bool late = false, earlier_part_was_shown = false;
  std::uint32_t marks = 0;
  std::size_t bytes = 0;  // as they are counted in bytes_
  std::size_t over_limit = 0, over_limit_failed = 0, extra = 0;
  // Of a trace over its limit: parents that are still to come, for which there is always some room, so that what is
  // kept hangs together.
  std::unique_ptr<std::unordered_set<std::uint64_t>> wanted;
};

namespace {

// A node of a list and one of a map, and what malloc needs for them.
constexpr std::size_t kOpenBytes = 160;
constexpr std::size_t kWantedBytes = 48;

bool is_root(const Span& span) {
  return span.kind == Kind::span && span.parent_id == 0 && (span.flags & NOPSPAN_FLAG_ORPHAN) == 0;
}
bool has_remote_parent(const Span& span) {
  return span.kind == Kind::span && span.parent_id != 0 && (span.flags & NOPSPAN_FLAG_REMOTE_PARENT) != 0;
}
bool is_orphan(const Span& span) { return span.kind == Kind::span && (span.flags & NOPSPAN_FLAG_ORPHAN) != 0; }

}  // namespace

std::size_t TraceAssembler::HashId::operator()(const TraceId& id) const {
  std::uint64_t halves[2];
  std::memcpy(halves, id.bytes, sizeof(halves));
  std::uint64_t hash = (halves[0] ^ seed) * 0xff51afd7ed558ccdU;
  hash = (hash ^ (hash >> 32U) ^ halves[1]) * 0xc4ceb9fe1a85ec53U;
  return hash ^ (hash >> 29U);
}

TraceAssembler::TraceAssembler(const TraceLimits& limits, Mark mark, Take take)
    : limits_(limits), mark_(std::move(mark)), take_(std::move(take)) {
  // Ids are the traced processes' choice: what they hash to is not.
  std::random_device random;
  const HashId hash{std::uint64_t{random()} << 32U | random()};
  open_ = decltype(open_)(64, hash);
  remembered_ = decltype(remembered_)(64, hash);
}

TraceAssembler::~TraceAssembler() = default;

std::size_t TraceAssembler::bytes() const { return bytes_ + texts_.bytes(); }

void TraceAssembler::add(const Span& span) {
  if (span.kind == Kind::gauge) return;
  ++counts_.entries;
  if (span.trace_id.empty()) {
    ++counts_.outside;
    return;
  }
  if (span.process != nullptr && *span.process && span.process->get() != last_process_) {
    last_process_ = span.process->get();
    remote_parents_.saw(*last_process_);
  }
  const List::iterator open = find_or_begin(span.trace_id);
  open->marks |= mark_ ? mark_(span) : 0;
  if (open->late) ++counts_.late;
  if (has_room(*open, span)) {
    open->has_root |= is_root(span);
    open->has_remote |= has_remote_parent(span);
    open->has_orphan |= is_orphan(span);
    if (open->trace.bytes() + span.attributes.size() <= limits_.bytes_per_trace) {
      open->trace.add(span);
    } else {
      open->trace.add_bare(span);
    }
    ++counts_.held;
  } else {
    ++counts_.over_limit;
    ++open->over_limit;
    if (span.kind == Kind::span && span.failed()) ++open->over_limit_failed;
  }
  const std::size_t bytes =
      sizeof(Open) + kOpenBytes + open->trace.bytes() + (open->wanted ? open->wanted->size() * kWantedBytes : 0);
  bytes_ += bytes - open->bytes;
  open->bytes = bytes;
  open->fresh = true;
  active_.splice(active_.end(), *open->list, open);
  open->list = &active_;
  make_room();
}

TraceAssembler::List::iterator TraceAssembler::find_or_begin(const TraceId& id) {
  const auto known = open_.find(id);
  if (known != open_.end()) return known->second;
  const List::iterator open = active_.emplace(active_.end(), id, texts_);
  open->list = &active_;
  if (const auto earlier = remembered_.find(id); earlier != remembered_.end()) {
    open->late = true;
    open->earlier_part_was_shown = earlier->second;
  }
  open_.emplace(id, open);
  return open;
}

// The first ones are kept; of those that come later a few outermost spans, and the ancestors of what is kept.
bool TraceAssembler::has_room(Open& open, const Span& span) {
  if (open.trace.size() < limits_.entries_per_trace && open.trace.bytes() < limits_.bytes_per_trace) return true;
  if (span.kind != Kind::span) return false;
  const std::size_t extra_room = 64 + limits_.entries_per_trace / 8;
  if (open.extra >= extra_room) return false;
  if (!open.wanted) {
    open.wanted = std::make_unique<std::unordered_set<std::uint64_t>>();
    const auto entries = open.trace.entries();
    for (const TraceEntry* entry : entries) {
      const std::uint64_t above = entry->is_span() ? entry->parent_id : entry->span_id;
      if (above != 0) open.wanted->insert(above);
    }
    for (const TraceEntry* entry : entries) {
      if (entry->is_span()) open.wanted->erase(entry->span_id);
    }
  }
  constexpr std::size_t kOutermostRoom = 64;
  const bool outermost = is_root(span) || has_remote_parent(span);
  if (open.wanted->erase(span.span_id) == 0 && !(outermost && open.extra < kOutermostRoom)) return false;
  if (span.parent_id != 0) open.wanted->insert(span.parent_id);
  ++open.extra;
  return true;
}

// Those that are probably whole go first, then those for which nothing came for the longest time.
void TraceAssembler::make_room() {
  while (open_.size() > 1 && (bytes_ > limits_.bytes || open_.size() > limits_.traces)) {
    List& list = !patient_.empty() ? patient_ : !dormant_.empty() ? dormant_ : active_;
    const List::iterator open = list.begin();
    const bool whole = open->has_root || (&list == &patient_ && open->has_remote);
    if (whole && !open->late) ++counts_.hurried;
    hand_over(open, open->late ? TraceEnd::late : whole ? TraceEnd::finished : TraceEnd::evicted);
  }
}

void TraceAssembler::tick(std::uint64_t now_ns) {
  if (now_ns > last_tick_ns_) clock_ns_ += now_ns - last_tick_ns_;
  last_tick_ns_ = now_ns;
  for (auto open = active_.rbegin(); open != active_.rend() && open->fresh; ++open) {
    open->fresh = false;
    open->quiet_since_ns = clock_ns_;
  }
  const auto is_quiet = [&](const List& list, std::uint64_t grace_ns) {
    return !list.empty() && clock_ns_ - list.front().quiet_since_ns >= grace_ns;
  };
  while (is_quiet(active_, limits_.grace_ns)) settle(active_.begin());
  while (is_quiet(patient_, limits_.long_grace_ns)) {
    hand_over(patient_.begin(), patient_.front().has_remote ? TraceEnd::finished : TraceEnd::unfinished);
  }
}

// Nothing came for the grace time.
void TraceAssembler::settle(List::iterator open) {
  const auto move_to = [&](List& list) {
    list.splice(list.end(), active_, open);
    open->list = &list;
  };
  if (open->late) {
    hand_over(open, TraceEnd::late);
  } else if (open->has_root) {
    hand_over(open, TraceEnd::finished);
  } else if (!open->has_remote && !open->has_orphan) {
    move_to(dormant_);
  } else {
    const TraceLinks links(open->trace);
    if (links.awaits_spans()) {
      move_to(dormant_);
    } else if (!links.has_top(Top::remote) || parents_may_come(links, open->trace)) {
      move_to(patient_);
    } else {
      hand_over(open, TraceEnd::finished, links);
    }
  }
}

bool TraceAssembler::parents_may_come(const TraceLinks& links, const Trace& trace) const {
  const auto& nodes = links.nodes();
  return std::any_of(nodes.begin(), nodes.end(), [&](const TraceLinks::Node& node) {
    return node.top == Top::remote && remote_parents_.may_come(*trace.processes()[node.entry->process]);
  });
}

void TraceAssembler::hand_over(List::iterator open, TraceEnd end) { hand_over(open, end, TraceLinks(open->trace)); }

void TraceAssembler::hand_over(List::iterator open, TraceEnd end, const TraceLinks& links) {
  switch (end) {
    case TraceEnd::finished:
      ++counts_.finished;
      break;
    case TraceEnd::late:
      ++counts_.late_parts;
      break;
    case TraceEnd::evicted:
      ++counts_.evicted;
      break;
    case TraceEnd::unfinished:
      ++counts_.unfinished;
      break;
  }
  counts_.held -= open->trace.size();
  counts_.duplicates += links.duplicates();
  counts_.handed_over += links.nodes().size();
  counts_.conflicts += links.conflicts();
  counts_.circles += links.circles();
  learn_parents(*open, links);
  const bool shown = take_(
      {open->trace, links, end, open->marks, open->over_limit, open->over_limit_failed, open->earlier_part_was_shown});
  remember(open->trace.id(), shown || open->earlier_part_was_shown);
  bytes_ -= open->bytes;
  open_.erase(open->trace.id());
  open->list->erase(open);
}

void TraceAssembler::learn_parents(const Open& open, const TraceLinks& links) {
  if (!open.has_remote) return;
  for (const TraceLinks::Node& node : links.nodes()) {
    if (!node.entry->is_span() || node.entry->parent_id == 0 || !node.entry->has(NOPSPAN_FLAG_REMOTE_PARENT)) continue;
    remote_parents_.learn(*open.trace.processes()[node.entry->process], node.top != Top::remote);
  }
}

void TraceAssembler::remember(const TraceId& id, bool shown) {
  const auto [known, is_new] = remembered_.insert_or_assign(id, shown);
  if (is_new) remembered_order_.push_back(known->first);
  if (remembered_order_.size() > limits_.remembered) {
    remembered_.erase(remembered_order_.front());
    remembered_order_.pop_front();
  }
}

void TraceAssembler::finish() {
  for (List* list : {&active_, &patient_, &dormant_}) end_all(*list);
}

void TraceAssembler::end_all(List& list) {
  while (!list.empty()) {
    const List::iterator open = list.begin();
    if (open->late) {
      hand_over(open, TraceEnd::late);
      continue;
    }
    const TraceLinks links(open->trace);
    const bool whole = open->has_root || (open->has_remote && links.has_top(Top::remote) && !links.awaits_spans());
    hand_over(open, whole ? TraceEnd::finished : TraceEnd::unfinished, links);
  }
}

}  // namespace nopspan::collector
