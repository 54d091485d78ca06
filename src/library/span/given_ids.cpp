// SPDX-License-Identifier: Apache-2.0
// The metadata request_id, and trace_id of an agent's span or event: if the span or event begins a request, the request
// gets that id.
#include "base/counters.h"
#include "span/span.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>

#include <cstring>
#include <string_view>

namespace nopspan::detail {
namespace {

// The id that was set. Empty if there is none, or if it is content that must not leave the process.
std::string_view given_id(const SpanState& state, std::string_view key) noexcept {
  const FieldEntry* entry = state.fields.find(key, false);
  if (entry == nullptr || entry->type != Value::Type::string) return {};
  const bool content = (entry->flags & FieldEntry::kContent) != 0;
  return content && !captures_content(state.is_span) ? std::string_view() : entry->as_string();
}

void take_request(SpanState& state, const Context& request) noexcept {
  const ContextHead& head = ContextAccess::head(request);
  const bool is_open = state.state.load(std::memory_order_relaxed) == OpenSpan::kOpen;
  if (is_open) {  // a tracer may be reading it
    state.state.store(OpenSpan::kChanging, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    ++state.generation;
  }
  std::memcpy(state.context.trace_id, head.trace_id, kTraceIdBytes);
  std::memcpy(state.foreign_id, ContextAccess::foreign(request), sizeof(state.foreign_id));
  state.context.trace_flags = head.trace_flags;
  state.context.bits |= head.bits;
  state.flags |= context_flags(state.context);
  if (is_open) state.state.store(OpenSpan::kOpen, std::memory_order_release);
  state.request_id[0] = '\0';  // canonical_id() encodes it again
}

void apply_given_id(SpanState& state, std::string_view key) noexcept {
  const std::string_view id = given_id(state, key);
  if (id.empty()) return;
  const Context request = Context::with_request_id(id);
  if (state.begins_request && !state.started) {
    take_request(state, request);
    state.begins_request = false;
  } else if (std::memcmp(state.context.trace_id, ContextAccess::head(request).trace_id, kTraceIdBytes) != 0) {
    count(counters.trace_ids_differ);
  }
}

}  // namespace

void apply_noted_ids(SpanState& state) noexcept {
  const InsideLibrary inside;
  state.gives_id = false;
  apply_given_id(state, "request_id");
  constexpr std::string_view kAgent = "agent.";
  if (state.name.view().substr(0, kAgent.size()) == kAgent) apply_given_id(state, "trace_id");
}

}  // namespace nopspan::detail
