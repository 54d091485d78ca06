// SPDX-License-Identifier: Apache-2.0
// The gate, and the page around it that tracers read.
#pragma once

#include <nopspan/gate.h>
#include <nopspan/probes.h>

#include <cstdint>

extern "C" {
// In sites.S, alone in its page. Without probes in span/load.cpp.
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace nopspan::detail {

// gate() for the library itself, which needs no pointer to it.
inline std::uint64_t own_gate() noexcept { return __atomic_load_n(&nopspan_gate.gate, __ATOMIC_RELAXED); }

inline bool span_probes_up() noexcept { return (own_gate() & kGateSpans) != 0; }
inline bool point_probes_up() noexcept { return (own_gate() & kGatePoints) != 0; }
inline bool batch_up() noexcept { return (own_gate() & kGateBatch) != 0; }
inline bool span_handlers_up() noexcept { return (own_gate() & kGateSpanHandlers) != 0; }
inline bool point_handlers_up() noexcept { return (own_gate() & kGatePointHandlers) != 0; }
// True if a span that begins now is recorded by nobody.
inline bool spans_are_unrecorded() noexcept { return (own_gate() & kSpanMask) == 0; }

// The registry's bytes of the gate. The other parts are the kernel's counters, which the library never writes.
inline void set_handler_gate(bool spans, bool points) noexcept {
  constexpr unsigned kSpanHandlersByte = 4;
  constexpr unsigned kPointHandlersByte = 5;
  auto* bytes = reinterpret_cast<unsigned char*>(&nopspan_gate.gate);
  __atomic_store_n(bytes + kSpanHandlersByte, static_cast<unsigned char>(spans ? 1 : 0), __ATOMIC_RELAXED);
  __atomic_store_n(bytes + kPointHandlersByte, static_cast<unsigned char>(points ? 1 : 0), __ATOMIC_RELAXED);
}

}  // namespace nopspan::detail
