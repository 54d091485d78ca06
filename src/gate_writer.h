// SPDX-License-Identifier: Apache-2.0
// The registry's side of the gate. The kernel's counters in it are never written here.
#pragma once

namespace nopspan::detail {

void set_handler_gate(bool spans, bool points) noexcept;
bool gate_is_down() noexcept;

}  // namespace nopspan::detail
