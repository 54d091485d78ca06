// SPDX-License-Identifier: Apache-2.0
// A trace, and the counts of all traces, as JSON. docs/trace.md describes the fields.
#pragma once

#include "trace/trace_assembler.h"

#include <nlohmann/json_fwd.hpp>

namespace nopspan::collector {

// {"type": "trace", …, "spans": [{…}, …]}. The spans are a flat list, each after its parent.
nlohmann::ordered_json to_json(const AssembledTrace& assembled);
nlohmann::ordered_json to_json(const TraceCounts& counts);

}  // namespace nopspan::collector
