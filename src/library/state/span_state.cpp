// SPDX-License-Identifier: Apache-2.0
#include "state/span_state.h"

#include "base/counters.h"
#include "fields/attribute_keys.h"
#include "state/labels.h"

#include <cstring>
#include <utility>

namespace nopspan::detail {
namespace {

// Adds a span id as metadata: 16 hexadecimal digits, or null if it is 0.
void add_id(FieldBuffer& fields, std::string_view key, std::uint64_t id) noexcept {
  if (id == 0) {
    fields.add_null(key);
    return;
  }
  char text[16];
  encode_hex(id, sizeof(text), text);
  fields.add_string(key, {text, sizeof(text)});
}

bool lacks(const SpanState& state, std::string_view key) noexcept { return state.fields.find(key, false) == nullptr; }

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
  const std::string_view id = state.fields.find_text(key);
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

bool is_content_key(const FieldSink& sink, std::string_view key) noexcept {
  if (is_content_name(key)) return true;
  const auto is_marked = [key](unsigned of) {
    const AttributeKey* known = find_attribute_key(key, static_cast<AttributeKey::Of>(of));
    return known != nullptr && known->is_content;
  };
  if (sink.keys == 0) return false;
  if (is_marked(sink.keys)) return true;
  const auto& state = static_cast<const SpanState&>(sink);
  const std::string_view name = state.name.view();
  // These events of older conventions have the calls with their arguments. On a span it is a number.
  if (key == "tool_calls" && (name == "gen_ai.choice" || name == "gen_ai.assistant.message")) return true;
  if ((sink.keys & AttributeKey::named) == 0) return false;
  const AttributeKey::Of of = attribute_keys_of(name);
  return of != 0 && is_marked(of);
}

void note_new_name(SpanState& span) noexcept {
  if (attribute_keys_of(span.name.view()) == 0) return;
  span.keys |= AttributeKey::named;
  span.fields.mark_content([&span](std::string_view key) { return is_content_key(span, key); }, span.keeps_content);
}

void apply_noted_ids(SpanState& state) noexcept {
  const InsideLibrary inside;
  state.gives_id = false;
  apply_given_id(state, "request_id");
  constexpr std::string_view kAgent = "agent.";
  if (state.name.view().substr(0, kAgent.size()) == kAgent) apply_given_id(state, "trace_id");
}

std::size_t added_bytes(const SpanState& state) noexcept {
  constexpr std::size_t kBytes = 320;
  constexpr std::size_t kTextBytes = sizeof(FieldEntry) + 2 * (kMaxNameBytes + 1) + 8;  // the most of a key and a text
  std::size_t texts = (state.keys & AttributeKey::agent) != 0 ? 1 : 0;
  for (const std::uint16_t label : state.context.labels) texts += label != kNoLabel ? 1 : 0;
  return kBytes + texts * kTextBytes;
}

void add_trace_id(SpanState& state) noexcept {
  const bool is_inside = has_request(state) && !state.begins_request;
  if (is_inside && (state.keys & AttributeKey::agent) != 0 && lacks(state, "trace_id")) {
    state.fields.add_string("trace_id", visible_id(state));
  }
}

void add_ids(SpanState& span) noexcept {
  if (span.has_ids) return;
  span.has_ids = true;
  FieldBuffer& fields = span.fields;
  if (lacks(span, "request_id")) fields.add_string("request_id", visible_id(span));
  if (lacks(span, "span_id")) add_id(fields, "span_id", span.context.span_id);
  if (lacks(span, "parent_id")) add_id(fields, "parent_id", span.context.parent_id);
  add_trace_id(span);
  const auto add_label = [&](std::string_view key, std::string_view value) {
    if (lacks(span, key)) fields.add_string(key, value);
  };
  for (const auto& [key, which] : {std::pair("engine", ContextAccess::engine), std::pair("model", ContextAccess::model),
                                   std::pair("tenant", ContextAccess::tenant)}) {
    const std::uint16_t number = span.context.labels[which];
    if (number != kNoLabel) add_label(key, label(number).view());
  }
  for_each_extra_label(span.context, add_label);
}

}  // namespace nopspan::detail
