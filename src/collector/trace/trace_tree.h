// SPDX-License-Identifier: Apache-2.0
// Prints a trace as a tree.
#pragma once

#include "trace/trace.h"
#include "trace/trace_assembler.h"
#include "trace/trace_links.h"

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace nopspan::collector {

// If more than this many siblings have the same name, they are folded. Up to this many of those that failed are still
// shown by themselves.
inline constexpr std::size_t kShownSiblings = 5;

// A node, several siblings folded into one, or linked spans.
struct TreeItem {
  std::uint32_t node;        // the first of the siblings; kNone: linked spans
  std::uint64_t count = 1;   // more than 1: folded
  std::uint64_t inside = 0;  // number of spans inside them
  bool failed = false;       // each of them, or a span inside it, failed
  std::uint64_t sum_ns = 0, longest_ns = 0;
  std::uint64_t start_unix_ns = 0, end_unix_ns = 0;
  const LinkedSpans* linked = nullptr;
  const LinkedSpan* one = nullptr;  // one of `linked`, if it is shown by itself
};

// Selects what the tree shows of a node's children: each child, or many of the same name as one item.
class TraceFold {
 public:
  TraceFold(const Trace& trace, const TraceLinks& links);

  // The items below a node, in order: its children, and the linked spans that link to it. For kNone: the roots, and the
  // linked spans whose span is not in the trace.
  [[nodiscard]] std::vector<TreeItem> items_below(std::uint32_t node, bool all) const;

 private:
  struct Below {
    std::uint32_t spans = 0;  // without the node itself
    bool failed = false;      // including the node itself
  };

  // The items for the node `first` and the siblings after it.
  [[nodiscard]] std::vector<TreeItem> items(std::uint32_t first, bool all) const;

  const TraceLinks& links_;
  std::vector<Below> below_;
  std::multimap<std::uint32_t, const LinkedSpans*> linked_;  // linked spans by the node that they link to
};

struct TreeStyle {
  bool utf8 = true;
  bool color = false;
  bool all_spans = false;   // do not fold siblings of the same name or linked spans
  bool attributes = false;  // show all attributes, each in a line of its own
  std::size_t width = 0;    // columns of the terminal; 0: no limit
};

// Adds to `to` a header line (request, wall time, duration, spans, errors, processes) and a line for each span, point
// event and retry. A line has the duration, the offset from the trace's start, a bar that shows the position in the
// trace, and the tree with the entry's details. Among them are the time that no child explains (`self`) and the
// attributes that often say why a span was slow or failed. Many siblings of the same name share one line, unless they
// failed. Linked spans are shown in one line under the span that they link to.
void add_trace_text(const AssembledTrace& trace, const TreeStyle& style, std::string& to);

}  // namespace nopspan::collector
