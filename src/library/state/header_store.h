// SPDX-License-Identifier: Apache-2.0
// The store of the W3C headers that a process forwards: tracestate and baggage. A Context is trivially copyable and has
// no room for the text, so it holds a handle into the store.
//
// The store has two rings of 32,768 slots of 104 bytes. A text is the tracestate and the baggage, in as many slots as
// it needs. Texts of more than 512 bytes are in the second ring, so that clients that send much take no place from the
// others. A handle is the number of a slot and the slot's generation, so that a handle whose slot was reused is
// detected: the text is then lost, and counted as evicted. No function waits or allocates.
//
// What is kept: the slots of a ring are reused in turn, so requests that have ended need not be known. Before the 4096
// slots of a segment are reused, a writer looks through the scopes of all threads, and marks the slots that their
// contexts name. Marked slots are passed over. So entering and leaving a scope costs nothing for this. A context that
// is in no scope is kept until 28,672 slots or more have been filled after its own. If the scopes name all slots, a new
// text is not stored, and counted as evicted. The number of scopes is not bounded, so writers look through them for a
// 32nd of the time at most, apart from a burst of one ring. If this keeps a writer from the next segment, its text is
// not stored either. That time is estimated from the number of scopes: a preempted writer must not keep others out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxTracestateBytes = 512;

// A bit of a handle whose first slot has baggage. Without it, that slot has a tracestate.
inline constexpr std::uint64_t kOnlyBaggage = std::uint64_t{1} << 63U;
inline bool has_tracestate(std::uint64_t handle) noexcept { return handle != 0 && (handle & kOnlyBaggage) == 0; }

// Stores both texts and returns their handle. 0 if both are empty. `tracestate` has at most 512 bytes.
std::uint64_t store_headers(std::string_view tracestate, std::string_view baggage) noexcept;

// Copies the tracestate to `out` (513 bytes) and adds a NUL. Returns the length: 0 if there is none, or it was evicted.
std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept;

// Copies the baggage to `out`, which has room for `capacity` bytes. Returns the length: 0 if there is none, or a part
// of it was evicted.
std::size_t load_baggage(std::uint64_t handle, char* out, std::size_t capacity) noexcept;

}  // namespace nopspan::detail
