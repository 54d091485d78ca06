// SPDX-License-Identifier: Apache-2.0
#include "trace/trace_fold.h"

#include <algorithm>
#include <map>
#include <tuple>

namespace nopspan::collector {
namespace {

struct Group {
  std::size_t count = 0, shown = 0;
  std::size_t item = SIZE_MAX;  // index of the item into which siblings are folded
};

// If `all`, adds an item for each linked span that was kept, and one for the rest. Otherwise adds one item for all.
void add_linked(const LinkedSpans& linked, bool all, std::vector<TreeItem>& items) {
  TreeItem item{TraceLinks::kNone};
  item.linked = &linked;
  if (all) {
    for (const LinkedSpan& one : linked.each) {
      item.one = &one;
      item.failed = one.failed();
      item.sum_ns = item.longest_ns = one.duration_ns;
      item.start_unix_ns = one.start_unix_ns;
      item.end_unix_ns = one.end_unix_ns();
      items.push_back(item);
    }
    if (linked.each.size() == linked.times.count()) return;
  }
  item.one = nullptr;
  item.count = linked.times.count();
  item.failed = linked.failed > 0;
  item.sum_ns = linked.times.sum();
  item.longest_ns = linked.times.maximum();
  item.start_unix_ns = linked.start_unix_ns;
  item.end_unix_ns = linked.end_unix_ns;
  items.push_back(item);
}

}  // namespace

TraceFold::TraceFold(const Trace& trace, const TraceLinks& links) : links_(links), below_(links.nodes().size()) {
  for (const auto& linked : trace.linked()) linked_.emplace(links.node_of(linked->linked_id), linked.get());
  const auto& nodes = links.nodes();
  for (std::uint32_t i = links.first_leaf(); i != TraceLinks::kNone; i = links.next_after_children(i)) {
    Below& own = below_[i];
    own.failed |= nodes[i].entry->failed();
    if (nodes[i].parent == TraceLinks::kNone) continue;
    Below& parent = below_[nodes[i].parent];
    parent.spans += own.spans + (nodes[i].entry->is_span() ? 1 : 0);
    parent.failed |= own.failed;
  }
}

std::vector<TreeItem> TraceFold::items_below(std::uint32_t node, bool all) const {
  const bool is_top = node == TraceLinks::kNone;
  std::vector<TreeItem> items = this->items(is_top ? links_.first_root() : links_.nodes()[node].first_child, all);
  const auto [first, last] = linked_.equal_range(node);
  for (auto found = first; found != last; ++found) add_linked(*found->second, all, items);
  return items;
}

std::vector<TreeItem> TraceFold::items(std::uint32_t first, bool all) const {
  const auto& nodes = links_.nodes();
  std::vector<TreeItem> items;
  if (first == TraceLinks::kNone) return items;
  std::size_t siblings = 0;
  for (std::uint32_t i = first; i != TraceLinks::kNone && siblings <= kShownSiblings; i = nodes[i].next_sibling) {
    ++siblings;
  }
  all |= siblings <= kShownSiblings;
  using Key = std::tuple<Kind, std::uint32_t, bool, RootKind>;
  const auto key_of = [&](std::uint32_t i) {
    return Key(nodes[i].entry->kind, nodes[i].entry->name, below_[i].failed, nodes[i].root);
  };
  std::map<Key, Group> groups;
  if (!all) {
    for (std::uint32_t i = first; i != TraceLinks::kNone; i = nodes[i].next_sibling) ++groups[key_of(i)].count;
  }
  for (std::uint32_t i = first; i != TraceLinks::kNone; i = nodes[i].next_sibling) {
    const PackedEntry& packed = *nodes[i].entry;
    TreeItem one{i,
                 1,
                 below_[i].spans,
                 below_[i].failed,
                 packed.duration_ns,
                 packed.duration_ns,
                 packed.start_unix_ns,
                 packed.end_unix_ns()};
    if (all) {
      items.push_back(one);
      continue;
    }
    Group& group = groups[key_of(i)];
    const std::size_t shown_apart = group.count <= kShownSiblings || one.failed ? kShownSiblings : 0;
    // If only one sibling is left, it is shown instead of a fold of one.
    if (group.shown < shown_apart || group.count == group.shown + 1) {
      ++group.shown;
      items.push_back(one);
    } else if (group.item == SIZE_MAX) {
      group.item = items.size();
      items.push_back(one);
    } else {
      TreeItem& folded = items[group.item];
      ++folded.count;
      folded.inside += one.inside;
      folded.sum_ns = saturating_sum(folded.sum_ns, one.sum_ns);
      folded.longest_ns = std::max(folded.longest_ns, one.longest_ns);
      folded.end_unix_ns = std::max(folded.end_unix_ns, one.end_unix_ns);
    }
  }
  return items;
}

}  // namespace nopspan::collector
