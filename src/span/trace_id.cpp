// SPDX-License-Identifier: Apache-2.0
// If an agent's span or event has the metadata trace_id and begins a new request, the request gets that id.
#include "base/counters.h"
#include "span/span.h"
#include "thread/thread_state.h"

#include <nopspan/context.h>
#include <nopspan/gate.h>

#include <cstring>
#include <string_view>

namespace nopspan::detail {
namespace {

constexpr std::string_view kPrefix = "agent.";

// The trace id that was set. Empty if there is none, or if it is content that must not leave the process.
std::string_view given_trace_id(const SpanState& state) noexcept {
  const FieldEntry* entry = state.fields.find("trace_id", false);
  if (entry == nullptr || entry->type != Value::Type::string) return {};
  const bool content = (entry->flags & FieldEntry::kContent) != 0;
  return content && !capturing_content.load(std::memory_order_relaxed) ? std::string_view() : entry->as_string();
}

void take_request(SpanState& state, Context request) noexcept {
  Context& context = state.frame.context;
  std::memcpy(ContextAccess::trace_id(context), ContextAccess::trace_id(request), kTraceIdBytes);
  std::memcpy(ContextAccess::foreign(context), ContextAccess::foreign(request),
              sizeof(ContextAccess::foreign(context)));
  ContextAccess::trace_flags(context) = ContextAccess::trace_flags(request);
  ContextAccess::bits(context) |= ContextAccess::bits(request);
  state.flags |= context_flags(context);
  state.request_id[0] = '\0';  // canonical_id() encodes it again
}

}  // namespace

void apply_trace_id(SpanState& state) noexcept {
  if (std::string_view(state.name.text, state.name.size).substr(0, kPrefix.size()) != kPrefix) return;
  const InsideLibrary inside;
  const std::string_view id = given_trace_id(state);
  if (id.empty()) return;
  const Context request = Context::with_request_id(id);
  if (state.begins_request) {
    take_request(state, request);
  } else if (std::memcmp(ContextAccess::trace_id(state.frame.context), ContextAccess::trace_id(request),
                         kTraceIdBytes) != 0) {
    count(counters.trace_ids_differ);
  }
}

}  // namespace nopspan::detail
