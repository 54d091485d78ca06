// SPDX-License-Identifier: Apache-2.0
// The catalogues' span names, for what the compiler cannot check.
#pragma once

#include "intern.h"

namespace nopspan::detail {

// A span under a catalogue's prefix whose name the catalogue does not have ("llm.chats") is counted, and logged once.
void check_catalogue(const Interned& name) noexcept;

}  // namespace nopspan::detail
