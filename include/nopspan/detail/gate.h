// SPDX-License-Identifier: Apache-2.0
// The gate: one word that is zero while no tracer or handler is attached and no open spans are kept
// (keep_open_spans()). A disabled span loads only this word. It may be read from any thread at any time.
#ifndef NOPSPAN_DETAIL_GATE_H
#define NOPSPAN_DETAIL_GATE_H

#include <nopspan/detail/config.h>

#include <cstdint>
NOPSPAN_SHELL_HEADER

// The address of the gate. The gate is read through this pointer, because a PIE executable that reads the word
// directly gets a copy relocation: the kernel would then raise the library's word while the program reads its own
// copy. c.h declares it too.
#if !NOPSPAN_SHELL && !defined(NOPSPAN_HAVE_GATE_PTR)
#define NOPSPAN_HAVE_GATE_PTR
extern "C" NOPSPAN_VISIBLE const std::uint64_t* const nopspan_gate_ptr;
#endif

namespace NOPSPAN_NAMESPACE::detail {

// Layout of the word, bit 0 first. Compiled into programs: it cannot change.
//   spans          16  semaphore of span_start, span_stop, span_exception; raised by the kernel
//   batch          16  semaphore of nopspan_batch:batch; raised by the kernel
//   span_handlers   8  bit 0: an in-process handler is attached; bit 1: keep_open_spans(true); bit 2: a recording of
//                      this process (recording.h) is open; written by the library
//   point_handlers  8  bit 0: an in-process handler is attached; bit 1: a recording is open; written by the library
//   points         16  semaphore of all other probes; raised by the kernel
inline constexpr std::uint64_t kGateSpans = 0x000000000000ffffU;
inline constexpr std::uint64_t kGateBatch = 0x00000000ffff0000U;
inline constexpr std::uint64_t kGateSpanHandlers = 0x000000ff00000000U;
inline constexpr std::uint64_t kGatePointHandlers = 0x0000ff0000000000U;
inline constexpr std::uint64_t kGatePoints = 0xffff000000000000U;

inline constexpr std::uint64_t kSpanMask = kGateSpans | kGateBatch | kGateSpanHandlers;
inline constexpr std::uint64_t kPointMask = kGateBatch | kGatePointHandlers | kGatePoints;

#if NOPSPAN_SHELL
constexpr std::uint64_t gate() noexcept { return 0; }
#else
inline std::uint64_t gate() noexcept { return __atomic_load_n(nopspan_gate_ptr, __ATOMIC_RELAXED); }
#endif

// A catalogue's span feeds other probes too (tokens, tool_call, first_token, engine_request), so it is also recorded
// for them.
inline constexpr std::uint64_t kFeedingSpanMask = kSpanMask | kGatePoints;

// True if a span that starts now is recorded.
template <std::uint64_t mask = kSpanMask>
inline bool spans_wanted() noexcept {
  return __builtin_expect((gate() & mask) != 0, 0);
}

// The same for a point event.
inline bool points_wanted() noexcept { return __builtin_expect((gate() & kPointMask) != 0, 0); }

}  // namespace NOPSPAN_NAMESPACE::detail

#endif  // NOPSPAN_DETAIL_GATE_H
