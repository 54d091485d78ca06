// SPDX-License-Identifier: Apache-2.0
// The part of a plug-in that uses only the contexts of nopspan.
#include "plugin.h"

#include <nopspan/context.h>

#include <new>

namespace {
void* kept = nullptr;
}

void plugin_enter(void* scope) { new (scope) nopspan::ContextScope{nopspan::Context::make()}; }
void plugin_leave(void* scope) { static_cast<nopspan::ContextScope*>(scope)->~ContextScope(); }
void plugin_keep(void* scope) { kept = scope; }
void plugin_finish() {
  if (kept != nullptr) plugin_leave(kept);
}
