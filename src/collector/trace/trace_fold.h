// SPDX-License-Identifier: Apache-2.0
// What is shown of a node's children: each, or many of one name as one.
#pragma once

#include "trace/trace_links.h"

#include <cstdint>
#include <vector>

namespace nopspan::collector {

// More siblings of one name than this are folded. Of those in which something failed as many are shown.
inline constexpr std::size_t kShownSiblings = 5;

// A node, or several siblings.
struct TreeItem {
  std::uint32_t node;        // the first of them
  std::uint64_t count = 1;   // more: folded
  std::uint64_t inside = 0;  // spans below them
  bool failed = false;       // in each of them something did
  std::uint64_t sum_ns = 0, longest_ns = 0;
  std::uint64_t start_unix_ns = 0, end_unix_ns = 0;
};

class TraceFold {
 public:
  explicit TraceFold(const TraceLinks& links);

  // Of a node and its siblings that follow, in order.
  [[nodiscard]] std::vector<TreeItem> items(std::uint32_t first, bool all) const;

 private:
  struct Below {
    std::uint32_t spans = 0;  // itself not counted
    bool failed = false;      // itself counted
  };

  const TraceLinks& links_;
  std::vector<Below> below_;
};

}  // namespace nopspan::collector
