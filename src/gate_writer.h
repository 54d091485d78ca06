// SPDX-License-Identifier: Apache-2.0
// The registry's side of the gate. The kernel's counters in it are never written here.
#pragma once

namespace nopspan::detail {

void set_handler_gate(bool spans, bool points) noexcept;
// Whether a span that begins now is recorded by nobody, whatever else is listened to.
bool spans_are_unrecorded() noexcept;

}  // namespace nopspan::detail
