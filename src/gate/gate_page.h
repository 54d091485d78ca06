// SPDX-License-Identifier: Apache-2.0
// The gate, and what a tracer finds beside it.
#pragma once

#include <nopspan/probes.h>

#include <cstdint>

extern "C" {
// In sites.S, alone in its page; without probes in gate.cpp.
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace nopspan::detail {

// gate() for the library itself, which needs no pointer to it.
inline std::uint64_t own_gate() noexcept { return __atomic_load_n(&nopspan_gate.gate, __ATOMIC_RELAXED); }

}  // namespace nopspan::detail
