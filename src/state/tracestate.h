// SPDX-License-Identifier: Apache-2.0
// The store of W3C tracestate headers. A Context is trivially copyable and has no room for the text, so it holds a
// handle into the store.
//
// The store is a ring of 4096 slots. A handle is the number of a slot and the slot's generation, so that a handle whose
// slot was reused is detected: the text is then lost, and counted as evicted. No function waits or allocates.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxTracestateBytes = 512;

// Stores a tracestate header and returns its handle. Malformed headers are dropped, long ones lose whole members, and
// both are counted. 0 if nothing is left.
std::uint64_t store_tracestate(std::string_view header) noexcept;

// Copies the text of `handle` to `out` (513 bytes) and adds a NUL. Returns the length: 0 if the text was evicted.
std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept;

}  // namespace nopspan::detail
