// SPDX-License-Identifier: Apache-2.0
// The in-process side of an event: who gets it.
#pragma once

#include "thread_state.h"

#include <nopspan/event.h>
#include <nopspan/registry.h>

namespace nopspan::detail {

// Calls the handlers of event.name(), in order of attachment. Not inside an Entry: handlers are application code. Passes on
// nothing but thread exit.
void dispatch(Event& event);

// Around fork().
void lock_registry() noexcept;
void unlock_registry() noexcept;

}  // namespace nopspan::detail
