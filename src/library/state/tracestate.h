// SPDX-License-Identifier: Apache-2.0
// W3C tracestate headers.
#pragma once

#include "state/header_store.h"

#include <nopspan/types.h>

#include <cstddef>

namespace nopspan::detail {

// Copies a tracestate, which may have several header lines, to `out` (512 bytes), and returns its length. A malformed
// one is dropped, a long one loses whole members, and both are counted.
std::size_t check_tracestate(const Text* lines, std::size_t count_of_lines, char* out) noexcept;

}  // namespace nopspan::detail
