// SPDX-License-Identifier: Apache-2.0
// A trace, and what became of all traces, as JSON for programs. docs/trace.md says what the fields mean.
#pragma once

#include "trace/trace_assembler.h"

#include <nlohmann/json_fwd.hpp>

namespace nopspan::collector {

// {"type": "trace", …, "spans": [{…}, …]}: spans flat, each behind its parent.
nlohmann::ordered_json to_json(const AssembledTrace& assembled);
nlohmann::ordered_json to_json(const TraceCounts& counts);

}  // namespace nopspan::collector
