// SPDX-License-Identifier: Apache-2.0
// Dispatches the events of spans, and point events, to handlers. Must not be called inside a LibraryGuard.
#pragma once

#include "handlers/registry.h"
#include "state/catalogue.h"
#include "state/span_state.h"

namespace nopspan::detail {

inline Shape shape_of(const SpanState& span) noexcept {
  return span.catalogue != nullptr ? span.catalogue->shape : Shape::standard;
}

void dispatch_start(SpanState& span);
// Dispatches .stop or .exception.
void dispatch_end(SpanState& span);

}  // namespace nopspan::detail
