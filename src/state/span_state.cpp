// SPDX-License-Identifier: Apache-2.0
#include "state/span_state.h"

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

}  // namespace

void add_ids(SpanState& span) noexcept {
  if (span.has_ids) return;
  span.has_ids = true;
  FieldBuffer& fields = span.fields;
  const auto absent = [&](std::string_view key) { return fields.find(key, false) == nullptr; };
  if (absent("request_id")) fields.add_string("request_id", visible_id(span));
  if (absent("span_id")) add_id(fields, "span_id", span.context.span_id);
  if (absent("parent_id")) add_id(fields, "parent_id", span.parent_id);
}

}  // namespace nopspan::detail
