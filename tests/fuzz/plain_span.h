// SPDX-License-Identifier: Apache-2.0
// The state of a span of no catalogue, for tests of its fields.
#pragma once

#include "state/span_state.h"

struct PlainSpan : nopspan::detail::SpanState {
  PlainSpan() : SpanState(nopspan::detail::Reused{}) {
    context = {};
    begin();
    begin_numbers();
  }
};
