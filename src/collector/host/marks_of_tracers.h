// SPDX-License-Identifier: Apache-2.0
// What tracers change in the memory of a process. A copy of this memory that is run later, without them, dies at its
// first span: a restored checkpoint (CRIU), for example.
#pragma once

#include "host/host.h"
#include "host/library_view.h"

#include <optional>

namespace nopspan::collector {

// Whether a tracer has raised the gate of this copy of the library, or has set a breakpoint at one of its probes. Empty
// if the memory cannot be read.
std::optional<bool> has_marks_of_tracers(const Target& process, const Host::Copy& copy);

}  // namespace nopspan::collector
