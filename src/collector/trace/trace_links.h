// SPDX-License-Identifier: Apache-2.0
// Who is whose child in a trace, whatever its processes wrote: no duplicates, no circles.
#pragma once

#include "trace/trace.h"

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nopspan::collector {

// Why a node has no parent here.
enum class Top : std::uint8_t {
  none,     // it has one
  root,     // it says that there is none
  remote,   // it is in another process, of which nothing is here
  orphan,   // nobody recorded whether there is one (NOPSPAN_FLAG_ORPHAN)
  missing,  // it is not here: lost, filtered, still running, or left out for the bound
  circle,   // it is among the node's own descendants
};

class TraceLinks {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // Children and siblings in order of their start; events and retries are children of their span.
  struct Node {
    const TraceEntry* entry;
    std::uint32_t parent = kNone, first_child = kNone, next_sibling = kNone;
    Top top = Top::none;
  };

  // `trace` outlives it, and does not change.
  explicit TraceLinks(const Trace& trace);

  [[nodiscard]] const std::vector<Node>& nodes() const { return nodes_; }
  // The span of this id, the first if several processes have one; kNone.
  [[nodiscard]] std::uint32_t node_of(std::uint64_t span_id) const { return find(span_id, 0, false); }
  [[nodiscard]] std::uint32_t first_top() const { return first_top_; }  // the others are its siblings
  [[nodiscard]] std::size_t duplicates() const {
    return duplicates_;
  }  // spans that were left out for the first of them
  // Spans of two processes with one id: both are here.
  [[nodiscard]] std::size_t conflicts() const { return conflicts_; }
  [[nodiscard]] std::size_t circles() const { return circles_; }
  [[nodiscard]] bool has_top(Top top) const { return (tops_ & (1U << static_cast<unsigned>(top))) != 0; }
  // Something here tells of a span that a process seen here has not ended yet, or that was lost.
  [[nodiscard]] bool awaits_spans() const { return awaits_spans_; }
  // Indices of nodes(), each before its children, siblings in order.
  [[nodiscard]] std::vector<std::uint32_t> preorder() const;
  // Of the outermost span or spans (root, else remote, else any top). 0, 0 where there are events alone.
  [[nodiscard]] std::uint64_t start_unix_ns() const { return start_; }
  [[nodiscard]] std::uint64_t end_unix_ns() const { return end_; }
  [[nodiscard]] bool is_outermost(const Node& node) const;
  // Of the longest outermost span.
  [[nodiscard]] std::uint64_t longest_outermost_ns() const { return longest_outermost_; }

 private:
  struct Id {
    std::uint64_t span_id;
    std::uint32_t process, node;
  };

  void leave_out_duplicates(std::vector<const TraceEntry*>& entries);
  [[nodiscard]] std::uint32_t find(std::uint64_t span_id, std::uint32_t process, bool prefer_other) const;
  void find_parents();
  void cut_circles();
  void cut_circle_of(std::uint32_t node);
  void join();
  void measure();

  std::vector<Node> nodes_;  // in order of their start
  std::vector<Id> ids_;      // of spans, sorted
  std::uint32_t first_top_ = kNone;
  std::size_t duplicates_ = 0, conflicts_ = 0, circles_ = 0;
  unsigned tops_ = 0;
  Top outermost_ = Top::none;
  bool awaits_spans_ = false;
  std::uint64_t start_ = 0, end_ = 0, longest_outermost_ = 0;
};

}  // namespace nopspan::collector
