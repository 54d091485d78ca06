// SPDX-License-Identifier: Apache-2.0
// The links of a span, and what a span is that has some and no parent.
#pragma once

#include "model/span.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

struct SpanLink {
  TraceId trace_id;
  std::uint64_t span_id = 0;
};

// Calls on_link(SpanLink) for each.
template <class OnLink>
void for_each_link(std::string_view links, const OnLink& on_link) {
  for (; links.size() >= sizeof(nopspan_link); links.remove_prefix(sizeof(nopspan_link))) {
    nopspan_link link;
    std::memcpy(&link, links.data(), sizeof(link));
    SpanLink one;
    static_assert(sizeof(one.trace_id.bytes) == sizeof(link.trace_id));
    std::memcpy(one.trace_id.bytes, link.trace_id, sizeof(link.trace_id));
    one.span_id = link.span_id;
    on_link(one);
  }
}

// What was done for several requests at once, as an engine's step is: it has links to them, and no parent.
inline bool is_shared(const Span& span) {
  return span.kind == Kind::span && span.parent_id == 0 && span.links.size() >= sizeof(nopspan_link);
}

}  // namespace nopspan::collector
