// SPDX-License-Identifier: Apache-2.0
// What is shown of a node's children: each, or many of one name as one.
#pragma once

#include "trace/shared_spans.h"
#include "trace/trace.h"
#include "trace/trace_links.h"

#include <cstdint>
#include <map>
#include <vector>

namespace nopspan::collector {

// More siblings of one name than this are folded. Of those in which something failed as many are shown.
inline constexpr std::size_t kShownSiblings = 5;

// A node, or several siblings; or spans that other requests share.
struct TreeItem {
  std::uint32_t node;        // the first of them; kNone: shared ones
  std::uint64_t count = 1;   // more: folded
  std::uint64_t inside = 0;  // spans below them
  bool failed = false;       // in each of them something did
  std::uint64_t sum_ns = 0, longest_ns = 0;
  std::uint64_t start_unix_ns = 0, end_unix_ns = 0;
  const SharedSpans* shared = nullptr;
  const SharedSpan* one = nullptr;  // of those
};

class TraceFold {
 public:
  TraceFold(const Trace& trace, const TraceLinks& links);

  // Of what is below a node, in order: its children, and the shared spans that link to it. kNone: the outermost, and
  // what links to none that is here.
  [[nodiscard]] std::vector<TreeItem> items_below(std::uint32_t node, bool all) const;

 private:
  struct Below {
    std::uint32_t spans = 0;  // itself not counted
    bool failed = false;      // itself counted
  };

  // Of a node and its siblings that follow.
  [[nodiscard]] std::vector<TreeItem> items(std::uint32_t first, bool all) const;

  const TraceLinks& links_;
  std::vector<Below> below_;
  std::multimap<std::uint32_t, const SharedSpans*> shared_;  // by the node that they link to
};

}  // namespace nopspan::collector
