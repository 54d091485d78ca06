// SPDX-License-Identifier: Apache-2.0
// The registry's side of the gate. The kernel's counters in it are never written here.
#pragma once

#include "gate/gate_page.h"

#include <nopspan/gate.h>

namespace nopspan::detail {

void set_handler_gate(bool spans, bool points) noexcept;
// Whether a span that begins now is recorded by nobody, whatever else is listened to.
inline bool spans_are_unrecorded() noexcept { return (own_gate() & kSpanMask) == 0; }

}  // namespace nopspan::detail
