// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_links.h"

#include <nopspan/probes.h>

#include <algorithm>
#include <tuple>

namespace nopspan::collector {

void TraceLinks::build(const Trace& trace) {
  nodes_.clear();
  first_root_ = kNone;
  spans_ = failed_ = 0;
  duplicates_ = conflicts_ = cycles_ = 0;
  root_kinds_ = 0;
  awaits_spans_ = false;
  start_ = end_ = longest_root_ = 0;
  trace.entries(entries_);
  drop_duplicates();
  // Sorted by start. With equal starts, spans come before events, and otherwise the order of arrival is kept.
  const auto is_before = [](const PackedEntry* a, const PackedEntry* b) {
    return std::tuple(a->start_unix_ns, !a->is_span()) < std::tuple(b->start_unix_ns, !b->is_span());
  };
  if (!std::is_sorted(entries_.begin(), entries_.end(), is_before)) {
    std::stable_sort(entries_.begin(), entries_.end(), is_before);
  }
  nodes_.reserve(entries_.size());
  for (const PackedEntry* entry : entries_) nodes_.push_back({entry});
  find_parents();
  break_cycles();
  join();
  measure();
}

void TraceLinks::collect_ids() {
  ids_.clear();
  for (std::uint32_t i = 0; i < entries_.size(); ++i) {
    const PackedEntry& entry = *entries_[i];
    if (entry.is_span() && entry.span_id != 0) ids_.push_back({entry.span_id, entry.process, i});
  }
  std::sort(ids_.begin(), ids_.end(), [](const Id& a, const Id& b) {
    return std::tuple(a.span_id, a.process, a.node) < std::tuple(b.span_id, b.process, b.node);
  });
}

void TraceLinks::drop_duplicates() {
  collect_ids();
  for (std::size_t i = 1; i < ids_.size(); ++i) {
    if (ids_[i].span_id != ids_[i - 1].span_id) continue;
    if (ids_[i].process == ids_[i - 1].process) {
      entries_[ids_[i].node] = nullptr;
      ++duplicates_;
    } else {
      ++conflicts_;
    }
  }
  if (duplicates_ > 0) entries_.erase(std::remove(entries_.begin(), entries_.end(), nullptr), entries_.end());
}

// Finds the span with this id. If several processes have one, the span of `process` is returned, or with `prefer_other`
// that of another process, because a remote parent is in another one.
std::uint32_t TraceLinks::find(std::uint64_t span_id, std::uint32_t process, bool prefer_other) const {
  const auto first = std::lower_bound(ids_.begin(), ids_.end(), span_id,
                                      [](const Id& id, std::uint64_t wanted) { return id.span_id < wanted; });
  if (first == ids_.end() || first->span_id != span_id) return kNone;
  for (auto id = first; id != ids_.end() && id->span_id == span_id; ++id) {
    if ((id->process == process) != prefer_other) return id->node;
  }
  return first->node;
}

void TraceLinks::find_parents() {
  collect_ids();  // the entries have other places now
  for (Node& node : nodes_) {
    const PackedEntry& entry = *node.entry;
    const bool remote = entry.is_span() && entry.has(NOPSPAN_FLAG_REMOTE_PARENT);
    const std::uint64_t above = entry.is_span() ? entry.parent_id : entry.span_id;
    if (above != 0) node.parent = find(above, entry.process, remote);
    if (node.parent != kNone) continue;
    node.root = remote && above != 0             ? RootKind::remote
                : entry.has(NOPSPAN_FLAG_ORPHAN) ? RootKind::orphan
                : above == 0                     ? RootKind::request
                                                 : RootKind::missing;
    // An event without a root id is in a context from another process, so no span of this process is missing.
    if (node.root == RootKind::missing && (entry.is_span() || entry.root_id != 0)) awaits_spans_ = true;
  }
}

// Each node is visited once. A walk upwards ends at a root, at a node that an earlier walk has visited, or at a node of
// the same walk, which is then part of a cycle.
void TraceLinks::break_cycles() {
  walk_of_.assign(nodes_.size(), kNone);
  for (std::uint32_t start = 0; start < nodes_.size(); ++start) {
    std::uint32_t at = start;
    while (at != kNone && walk_of_[at] == kNone) {
      walk_of_[at] = start;
      at = nodes_[at].parent;
    }
    if (at != kNone && walk_of_[at] == start) break_cycle_of(at);
  }
}

// The node of the cycle with the earliest start becomes its root.
void TraceLinks::break_cycle_of(std::uint32_t node) {
  std::uint32_t first = node;
  for (std::uint32_t at = nodes_[node].parent; at != node; at = nodes_[at].parent) first = std::min(first, at);
  nodes_[first].parent = kNone;
  nodes_[first].root = RootKind::cycle;
  ++cycles_;
}

void TraceLinks::join() {
  // From the last node to the first, each inserted before its siblings, so no list of last children is needed.
  for (auto i = static_cast<std::uint32_t>(nodes_.size()); i-- > 0;) {
    Node& node = nodes_[i];
    std::uint32_t& first = node.parent == kNone ? first_root_ : nodes_[node.parent].first_child;
    node.next_sibling = first;
    first = i;
    if (!node.entry->is_span()) continue;
    root_kinds_ |= 1U << static_cast<unsigned>(node.root);
    ++spans_;
    failed_ += node.entry->failed() ? 1 : 0;
  }
}

std::uint32_t TraceLinks::next_before_children(std::uint32_t node) const {
  if (nodes_[node].first_child != kNone) return nodes_[node].first_child;
  while (node != kNone && nodes_[node].next_sibling == kNone) node = nodes_[node].parent;
  return node == kNone ? kNone : nodes_[node].next_sibling;
}

std::uint64_t TraceLinks::self_ns(const Node& node) const {
  // Children are sorted by start. `covered` is the end of the part that is the span's own time or a child's.
  std::uint64_t covered = node.entry->start_unix_ns, own = 0;
  const std::uint64_t end = node.entry->end_unix_ns();
  for (std::uint32_t i = node.first_child; i != kNone; i = nodes_[i].next_sibling) {
    const PackedEntry& child = *nodes_[i].entry;
    if (!child.is_span()) continue;
    const std::uint64_t start = std::min(child.start_unix_ns, end);
    if (start > covered) own += start - covered;
    covered = std::max(covered, std::min(child.end_unix_ns(), end));
  }
  return own + (end - covered);
}

void TraceLinks::measure() {
  RootKind main_kind = RootKind::none;
  for (const RootKind kind : {RootKind::remote, RootKind::request}) {
    if (has_root(kind)) main_kind = kind;
  }
  bool any = false;
  for (std::uint32_t i = first_root_; i != kNone; i = nodes_[i].next_sibling) {
    const PackedEntry& entry = *nodes_[i].entry;
    if (!entry.is_span() || (main_kind != RootKind::none && nodes_[i].root != main_kind)) continue;
    start_ = any ? std::min(start_, entry.start_unix_ns) : entry.start_unix_ns;
    end_ = std::max(end_, entry.end_unix_ns());
    longest_root_ = std::max(longest_root_, entry.duration_ns);
    any = true;
  }
}

}  // namespace nopspan::collector
