// SPDX-License-Identifier: Apache-2.0
#include "state/span_state.h"

#include "fields/attribute_keys.h"
#include "state/labels.h"

#include <utility>

namespace nopspan::detail {
namespace {

// Adds a span id as metadata: 16 hexadecimal digits, or null if it is 0.
void add_id(FieldBuffer& fields, std::string_view key, std::uint64_t id) noexcept {
  if (id == 0) {
    fields.add_null(key);
    return;
  }
  unsigned char bytes[8];
  char text[16];
  for (unsigned i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(id >> (56U - 8U * i));
  encode_hex(bytes, sizeof(bytes), text);
  fields.add_string(key, {text, sizeof(text)});
}

bool lacks(const SpanState& state, std::string_view key) noexcept { return state.fields.find(key, false) == nullptr; }

}  // namespace

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
