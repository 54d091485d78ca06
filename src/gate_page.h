// SPDX-License-Identifier: Apache-2.0
// The gate, and what a tracer finds beside it.
#pragma once

#include "../probes/nopspan_probes.h"

extern "C" {
// In probes.S, alone in its page; without probes in gate.cpp.
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}
