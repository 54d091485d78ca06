// SPDX-License-Identifier: Apache-2.0
// The parents and children in a trace. Whatever its processes wrote, the result has no duplicates and no cycles.
#pragma once

#include "trace/trace.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

// Why a node has no parent here.
enum class RootKind : std::uint8_t {
  none,     // it has a parent
  request,  // the request's own root span: it has no parent
  remote,   // the parent is in another process and has not been seen
  orphan,   // unknown whether there is a parent (NOPSPAN_FLAG_ORPHAN)
  missing,  // the parent is lost, filtered, still running, or over the limit
  cycle,    // the parent is among the node's own descendants
};

class TraceLinks {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Children are sorted by start. Point events and retries are children of their span.
  struct Node {
    const PackedEntry* entry;
    std::uint32_t parent = kNone, first_child = kNone, next_sibling = kNone;
    RootKind root = RootKind::none;
  };

  // Replaces what was built before. `trace` must outlive it, and must not change. Memory is used again.
  void build(const Trace& trace);

  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  [[nodiscard]] std::uint64_t spans() const { return spans_; }  // the number of nodes that are spans
  [[nodiscard]] std::uint64_t failed() const { return failed_; }
  // The node of the span with this id; the first one if several processes have it; kNone if there is none.
  [[nodiscard]] std::uint32_t node_of(std::uint64_t span_id) const { return find(span_id, 0, false); }
  [[nodiscard]] std::uint32_t first_root() const { return first_root_; }  // the other roots are its siblings
  // Spans that were dropped, because the same span is here.
  [[nodiscard]] std::size_t duplicates() const { return duplicates_; }
  // Number of spans whose id also occurs in another process. They are all kept.
  [[nodiscard]] std::size_t conflicts() const { return conflicts_; }
  [[nodiscard]] std::size_t cycles() const { return cycles_; }
  [[nodiscard]] bool has_root(RootKind kind) const { return (root_kinds_ & (1U << static_cast<unsigned>(kind))) != 0; }
  // Whether the entries refer to a span of the traced processes that is not here: it has not ended yet, or was lost.
  [[nodiscard]] bool awaits_spans() const { return awaits_spans_; }
  // The nodes from first_root() on, without recursion: each node before its children. Siblings are in order. kNone
  // after the last one.
  [[nodiscard]] std::uint32_t next_before_children(std::uint32_t node) const;
  // Start and end of the main root spans: those of kind request if there are any, otherwise the remote ones, otherwise
  // all roots. 0 and 0 if there are only events.
  [[nodiscard]] std::uint64_t start_unix_ns() const { return start_; }
  [[nodiscard]] std::uint64_t end_unix_ns() const { return end_; }
  // The time of a span in which none of its children ran. Linked spans are not children.
  [[nodiscard]] std::uint64_t self_ns(const Node& node) const;
  // Duration of the longest main root span.
  [[nodiscard]] std::uint64_t longest_root_ns() const { return longest_root_; }

 private:
  struct Id {
    std::uint64_t span_id;
    std::uint32_t process, node;
  };

  void collect_ids();
  void drop_duplicates();
  [[nodiscard]] std::uint32_t find(std::uint64_t span_id, std::uint32_t process, bool prefer_other) const;
  void find_parents();
  void break_cycles();
  void break_cycle_of(std::uint32_t node);
  void join();
  void measure();

  std::vector<const PackedEntry*> entries_;  // used by build(), as `walk_of_`
  std::vector<std::uint32_t> walk_of_;
  std::vector<Node> nodes_;  // sorted by start
  std::vector<Id> ids_;      // of spans, sorted by id
  std::uint32_t first_root_ = kNone;
  std::uint64_t spans_ = 0, failed_ = 0;
  std::size_t duplicates_ = 0, conflicts_ = 0, cycles_ = 0;
  unsigned root_kinds_ = 0;
  bool awaits_spans_ = false;
  std::uint64_t start_ = 0, end_ = 0, longest_root_ = 0;
};

}  // namespace nopspan::collector
