// SPDX-License-Identifier: Apache-2.0
// What must be true of a trace assembler at any time.
#pragma once

#include "trace/trace_assembler.h"

namespace nopspan::collector {

// Whether every entry, link and member that went in is counted exactly once.
inline bool adds_up(const TraceAssembler& assembler) {
  const TraceCounts& counts = assembler.counts();
  const StepCounts& steps = assembler.step_counts();
  const auto joins_add_up = [](const JoinCounts& of) {
    return of.all == of.joined + of.late + of.unknown + of.filtered + of.over_limit + of.held;
  };
  return joins_add_up(counts.links) && joins_add_up(steps.members) && joins_add_up(steps.inside) &&
         counts.entries == counts.outside + counts.duplicates + counts.over_limit + counts.linked + counts.steps +
                               counts.assembled + counts.held;
}

}  // namespace nopspan::collector
