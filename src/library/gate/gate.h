// SPDX-License-Identifier: Apache-2.0
// The gate and its page, which tracers read. A part of the gate word is not zero while a tracer or a handler wants
// spans or point events, or while open spans are kept.
#pragma once

#include <nopspan/detail/gate.h>
#include <nopspan/probes.h>

#include <cstdint>

extern "C" {
// Defined in sites.S, alone in its page. In a build without probes it is defined in span/load.cpp.
extern __attribute__((visibility("hidden"))) nopspan_gate_page nopspan_gate;
}

namespace nopspan::detail {

// The bits that the library itself sets.
inline constexpr std::uint64_t kSpanHandlersBit = std::uint64_t{1} << 32U;
inline constexpr std::uint64_t kKeepOpenBit = std::uint64_t{1} << 33U;  // keep_open_spans()
inline constexpr std::uint64_t kPointHandlersBit = std::uint64_t{1} << 40U;
// A receiver in this process takes batches (emit/batch_tap.cpp). Programs test other parts of the gate for spans and
// for point events, so there are two bits.
inline constexpr std::uint64_t kSpanTapBit = std::uint64_t{1} << 34U;
inline constexpr std::uint64_t kPointTapBit = std::uint64_t{1} << 41U;
// Threads write batches.
inline constexpr std::uint64_t kBatchUp = kGateBatch | kSpanTapBit;

// Like gate() in the public header, but without the pointer: the library knows the address of the gate.
inline std::uint64_t own_gate() noexcept { return __atomic_load_n(&nopspan_gate.gate, __ATOMIC_RELAXED); }

// False if a tracer's breakpoint in a site would end this process.
inline bool calls_sites() noexcept { return (nopspan_gate.flags & NOPSPAN_GATE_NO_SITES) == 0; }
inline bool span_probes_up() noexcept { return (own_gate() & kGateSpans) != 0 && calls_sites(); }
inline bool point_probes_up() noexcept { return (own_gate() & kGatePoints) != 0 && calls_sites(); }
inline bool batch_up() noexcept { return (own_gate() & kBatchUp) != 0; }
inline bool batch_tap_up() noexcept { return (own_gate() & kSpanTapBit) != 0; }
inline bool span_handlers_up() noexcept { return (own_gate() & kSpanHandlersBit) != 0; }
inline bool point_handlers_up() noexcept { return (own_gate() & kPointHandlersBit) != 0; }
// True if no tracer and no handler wants spans, and open spans are not kept. A plain span that begins now is not
// recorded.
inline bool spans_are_unrecorded() noexcept { return (own_gate() & kSpanMask) == 0; }

// Sets the two bits of the gate that the registry owns. Defined in span/load.cpp.
void set_handler_gate(bool any_handler) noexcept;
// Sets the two bits of the tap.
void set_tap_gate(bool any_tap) noexcept;

}  // namespace nopspan::detail
