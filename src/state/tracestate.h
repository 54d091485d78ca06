// SPDX-License-Identifier: Apache-2.0
// W3C tracestate: checked, and kept where a trivially copyable Context can name it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nopspan::detail {

inline constexpr std::size_t kMaxTracestateBytes = 512;

// Stores the members of a tracestate header that may be passed on; 0 where there are none. Counts what is left out. The
// store holds the latest 4096: an older handle then gives nothing, counted.
std::uint64_t store_tracestate(std::string_view header) noexcept;

// Copies what `handle` names to `out` (513 bytes, ended with a NUL); returns the length, 0 if it is gone.
std::size_t load_tracestate(std::uint64_t handle, char* out) noexcept;

}  // namespace nopspan::detail
