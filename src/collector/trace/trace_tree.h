// SPDX-License-Identifier: Apache-2.0
// A trace as a tree, for people.
#pragma once

#include "trace/trace_assembler.h"

#include <cstddef>
#include <string>

namespace nopspan::collector {

struct TreeStyle {
  bool utf8 = true;
  bool color = false;
  bool all_spans = false;  // do not fold siblings of one name, nor shared spans
  std::size_t width = 0;   // of the terminal; 0: lines are as long as they get
};

// A header line (request, wall time, duration, spans, errors, processes), then a line for each span, event and retry:
// duration, offset from the trace's start, a bar of where it lies in the trace, and the tree with what is known of it.
// Many siblings of one name are one line, unless they failed. So are the spans that it shares with other requests,
// below the span that they link to.
std::string trace_text(const AssembledTrace& trace, const TreeStyle& style);

}  // namespace nopspan::collector
