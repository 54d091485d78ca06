// SPDX-License-Identifier: Apache-2.0
#include "live/event_reader.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>

namespace nopspan::collector {
namespace {

template <std::size_t N>
std::string_view text(const char (&bytes)[N]) {
  return {bytes, strnlen(bytes, N)};
}

// 22 characters of URL-safe Base64; empty if they are not that.
TraceId trace_id_in(const char (&id)[24]) {
  const std::string_view written(id, strnlen(id, sizeof(id)));
  return written.size() == 22 ? trace_id_of(written) : TraceId{};
}

void read_numbers(const nopspan_event& event, std::uint64_t time_ns, const ClockMap& clocks, Span& span) {
  const nopspan_span& from = event.span;
  span.flags = from.flags;
  span.trace_id = trace_id_in(from.request_id);
  span.span_id = from.span_id;
  span.parent_id = from.parent_id;
  span.root_id = from.root_id;
  const bool is_span = span.kind == Kind::span;
  const std::uint64_t start = is_span ? from.start_ns : span.kind == Kind::event ? event.argument2 : time_ns;
  span.start_unix_ns = clocks.to_unix(start);
  span.duration_ns = is_span ? from.duration_ns : 0;
  span.has_usage = is_span && (from.flags & NOPSPAN_FLAG_HAS_USAGE) != 0;
  span.usage = {from.input_tokens, from.output_tokens, from.cached_tokens, from.reasoning_tokens};
  span.has_first_token = is_span && (from.flags & NOPSPAN_FLAG_HAS_FIRST_TOKEN) != 0;
  span.first_token_ns = from.first_token_ns;
  span.tells_tokens = (event.facts & NOPSPAN_TELLS_TOKENS) != 0;
  span.tells_tool = (event.facts & NOPSPAN_TELLS_TOOL) != 0;
  span.has_engine_times = (event.facts & NOPSPAN_EXTRA_ENGINE) != 0;
  const auto& times = event.engine_times;
  span.engine_times = {times[0], times[1], times[2], times[3], times[4], times[5], times[6]};
  const bool has_value = span.kind == Kind::retry || span.kind == Kind::gauge;
  span.value = has_value ? static_cast<std::int64_t>(event.argument2) : 0;
  span.number = has_value ? event.argument4 : 0;
}

void read_texts(const nopspan_event& event, Span& span) {
  const bool is_gauge = span.kind == Kind::gauge;
  span.name = is_gauge ? text(event.argument1) : text(event.name);
  span.engine = is_gauge ? text(event.argument0) : text(event.engine);
  span.model = text(event.model);
  span.tenant = text(event.tenant);
  span.exception_kind = text(event.exception_kind);
  span.error_type = text(event.error_type);
  span.foreign_id = !is_gauge && (event.span.flags & NOPSPAN_FLAG_FOREIGN_ID) != 0 ? text(event.argument0) : "";
  span.tracestate = text(event.tracestate);
  span.text = span.kind == Kind::retry ? text(event.argument1) : text(event.tool);
}

}  // namespace

bool read_event(std::string_view bytes, std::uint64_t time_ns, const ClockMap& clocks, Span& span) {
  if (bytes.size() < sizeof(nopspan_event)) return false;
  // The views must lead to where it lies, not to a copy.
  const auto& event = *reinterpret_cast<const nopspan_event*>(bytes.data());
  if (event.kind > NOPSPAN_ENTRY_GAUGE || event.span.status > NOPSPAN_STATUS_EXCEPTION) return false;
  bytes.remove_prefix(sizeof(event));
  const std::size_t links = std::size_t{event.span.link_count} * sizeof(nopspan_link);
  if (event.links_offset > bytes.size() || event.span.attributes_bytes > event.links_offset ||
      links > bytes.size() - event.links_offset) {
    return false;
  }
  span.kind = static_cast<Kind>(event.kind);
  span.status = static_cast<std::uint8_t>(event.span.status);
  read_numbers(event, time_ns, clocks, span);
  read_texts(event, span);
  span.attributes = bytes.substr(0, event.span.attributes_bytes);
  span.links = bytes.substr(event.links_offset, links);
  return true;
}

}  // namespace nopspan::collector
