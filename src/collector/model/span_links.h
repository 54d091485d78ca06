// SPDX-License-Identifier: Apache-2.0
// Reads the links of a span, and recognises linked spans.
#pragma once

#include "model/entry.h"

#include <nopspan/probes.h>

#include <cstdint>
#include <cstring>
#include <string_view>

namespace nopspan::collector {

struct SpanLink {
  TraceId trace_id;
  std::uint64_t span_id = 0;
};

// Calls on_link(SpanLink) for each link.
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

// Whether this is a linked span: one with links and no parent. It was done for several requests at once, like an
// engine's step.
inline bool is_linked(const Entry& entry) {
  return entry.kind == Kind::span && entry.parent_id == 0 && entry.links.size() >= sizeof(nopspan_link);
}

}  // namespace nopspan::collector
