// SPDX-License-Identifier: Apache-2.0
// Prints a trace as a tree.
#pragma once

#include "trace/trace_assembler.h"

#include <cstddef>
#include <string>

namespace nopspan::collector {

struct TreeStyle {
  bool utf8 = true;
  bool color = false;
  bool all_spans = false;   // do not fold siblings of the same name or linked spans
  bool attributes = false;  // show all attributes, each in a line of its own
  std::size_t width = 0;    // columns of the terminal; 0: no limit
};

// Adds to `to` a header line (request, wall time, duration, spans, errors, labels, processes) and a line for each span,
// point event and retry. A line has the duration, the offset from the trace's start, a bar that shows the position in
// the trace, and the tree with the entry's details. Among them are the time that no child explains (`self`) and the
// attributes that often say why a span was slow or failed. Many siblings of the same name share one line, unless they
// failed. Linked spans are shown in one line under the span that they link to.
void add_trace_text(const AssembledTrace& trace, const TreeStyle& style, std::string& to);

}  // namespace nopspan::collector
