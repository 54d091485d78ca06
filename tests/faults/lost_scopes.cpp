// SPDX-License-Identifier: Apache-2.0
// Compiled with -fno-exceptions. The unwinder skips the destructors of these functions, so their scopes never end.
#include "lost_scopes.h"

#include <nopspan/span.h>

void lose_scope(const nopspan::Context& context, void (*work)()) {
  const nopspan::ContextScope scope{context};
  work();
}

void lose_span(const nopspan::Context&, void (*work)()) {
  const nopspan::Span span{"lost"};
  work();
}
